from django.urls import path

from marketplace.views import apps, deploying, domains, prices, proofs, tokens, volumes

urlpatterns = [
    path("apps/", apps.apps, name="apps"),
    path("apps/new/", apps.app_new, name="app_new"),
    path("apps/<slug:slug>/", apps.app_detail, name="app_detail"),
    path("apps/<slug:slug>/status/", apps.app_status, name="app_status"),
    path("apps/<slug:slug>/releases/new/", apps.release_new, name="release_new"),
    path("apps/<slug:slug>/deploy/", deploying.app_deploy, name="app_deploy"),
    path("apps/<slug:slug>/estimate/", deploying.app_estimate, name="app_estimate"),
    path("apps/<slug:slug>/orders/<slug:action>/", deploying.app_action, name="app_action"),
    path("apps/<slug:slug>/scale/", deploying.app_scale, name="app_scale"),
    path("apps/<slug:slug>/domains/<slug:action>/", domains.domain_action, name="domain_action"),
    path("apps/<slug:slug>/data/", volumes.app_data, name="app_data"),
    path("apps/<slug:slug>/data/snapshot/", volumes.snapshot_take, name="snapshot_take"),
    path("apps/<slug:slug>/data/interval/", volumes.snapshot_interval, name="snapshot_interval"),
    path("apps/<slug:slug>/data/key/", volumes.snapshot_key, name="snapshot_key"),
    path("apps/<slug:slug>/data/<uuid:snapshot_id>/restore/", volumes.snapshot_restore, name="snapshot_restore"),
    path("apps/<slug:slug>/data/<uuid:snapshot_id>/", volumes.snapshot_download, name="snapshot_download"),
    path("prices/", prices.prices, name="prices"),
    path("prices/<slug:region>/<int:version>.json", proofs.price_list_document, name="price_list_document"),
    path("ledger/<int:entry_id>/proof/", proofs.bill_proof, name="bill_proof"),
    path("api-token/", tokens.api_token, name="api_token"),
]
