from django.urls import path

from interchain_site.core import views

urlpatterns = [
    path("home/", views.home, name="home"),
    path("account/", views.account_home, name="account_home"),
    path("healthz", views.healthz, name="healthz"),
]
