"""The one settings file. Everything that differs between machines is an environment variable, named in `dotenv-sample`.

Longer than 300 lines because one page of settings is easier to search than several.
"""

from __future__ import annotations

import os
from pathlib import Path

import environ
import structlog
from csp.constants import NONCE, SELF

from interchain_site.core import env

BASE_DIR = Path(__file__).resolve().parent.parent
env.load_dotenv(Path(os.environ.get("INTERCHAIN_ENV_FILE", BASE_DIR / ".env")))

# --- the machine -------------------------------------------------------------------------------------------------
DATA_DIR = Path(env.text("DATA_DIR", str(BASE_DIR / "var")))
DEBUG = env.flag("DEBUG", False)
SECRET_KEY = env.text("SECRET_KEY", "insecure-only-for-this-machine" if DEBUG else None)
FIELD_ENCRYPTION_KEYS = env.names("FIELD_ENCRYPTION_KEYS")
PORTAL_URL = env.text("PORTAL_URL", "http://localhost:8000").rstrip("/")
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = [PORTAL_URL]
SECURE = PORTAL_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.flag("BEHIND_TLS_PROXY") else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
if SECURE:  # browsers take a __Host- cookie only from this very host: an app on a host below it cannot plant its own
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- apps --------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "interchain_site.core",
    "interchain_site.local",
    "billing",
    "nodes",
    "marketplace",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "drf_spectacular",
    "django_htmx",
    "django_prometheus",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "interchain_site.core.middleware.DomainErrorMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "interchain_site.urls"
ASGI_APPLICATION = "interchain_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "interchain_site.core.context.site",
                "interchain_site.navigation.navigation",
            ],
            "builtins": ["interchain_site.core.templatetags.ui", "billing.templatetags.money"],
        },
    }
]

# --- stores ------------------------------------------------------------------------------------------------------
_database = environ.Env.db_url_config(env.text("DATABASE_URL", f"sqlite:///{DATA_DIR / 'db.sqlite3'}"))
if _database["ENGINE"].endswith("sqlite3"):
    _database["ENGINE"] = "interchain_site.core.sqlite"
    # pytest-django knows Django's own engine by its name; to any other it gives a file for each of its processes.
    _database["TEST"] = {"NAME": ":memory:"}
    # Without IMMEDIATE, two writers that both began by reading fail with "database is locked".
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA foreign_keys=ON;",
    }
else:
    _database["CONN_MAX_AGE"] = 60
    _database["CONN_HEALTH_CHECKS"] = True
DATABASES = {"default": _database}
REDIS_URL = env.text("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "media"}},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# Snapshots of volumes: a folder of this server, or anything that speaks S3.
SNAPSHOTS_S3_BUCKET = env.text("SNAPSHOTS_S3_BUCKET", "")
STORAGES["snapshots"] = (
    {
        "BACKEND": "nodes.snapshots.s3.SnapshotBucket",
        "OPTIONS": {
            "bucket_name": SNAPSHOTS_S3_BUCKET,
            "endpoint_url": env.text("SNAPSHOTS_S3_ENDPOINT", "") or None,
            "access_key": env.text("SNAPSHOTS_S3_ACCESS_KEY", ""),
            "secret_key": env.text("SNAPSHOTS_S3_SECRET_KEY", ""),
            "region_name": env.text("SNAPSHOTS_S3_REGION", "") or None,
        },
    }
    if SNAPSHOTS_S3_BUCKET
    else {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": env.text("SNAPSHOTS_DIR", str(DATA_DIR / "snapshots")),
            "directory_permissions_mode": 0o700,
        },
    }
)
# Where the portal's own restic finds the repositories; on the server itself a shorter way than the public address.
SNAPSHOTS_PORTAL_URL = env.text("SNAPSHOTS_PORTAL_URL", "") or PORTAL_URL
DATA_FAILOVER_SECONDS = env.integer("DATA_FAILOVER_SECONDS", 300)
SNAPSHOT_SECONDS = env.integer("SNAPSHOT_SECONDS", 3600)
MEDIA_ROOT = DATA_DIR / "media"
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
FILE_UPLOAD_PERMISSIONS = 0o600
IMAGE_ARCHIVE_MAX_BYTES = env.integer("IMAGE_ARCHIVE_MAX_BYTES", 2_000_000_000)

# --- accounts ----------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "core.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_LOGOUT_REDIRECT_URL = "landing"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_SUBJECT_PREFIX = "Interchain: "
ACCOUNT_REAUTHENTICATION_REQUIRED = True  # e-mail, password and second factor change only after the password
ACCOUNT_RATE_LIMITS = {  # amount / period / per what; over it: 429 with a readable page
    "signup": "20/m/ip",
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "reset_password": "20/m/ip,5/5m/key",
    "reset_password_from_key": "20/m/ip",
    "change_password": "5/m/user",
    "manage_email": "10/m/user",
    "reauthenticate": "10/m/user",
    "confirm_email": "1/3m/key",
}
ALLAUTH_TRUSTED_PROXY_COUNT = env.integer("TRUSTED_PROXY_COUNT", 0)  # 1 behind our Caddy, or one visitor limits all
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if SECURE else "http"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Interchain"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEBUG

# --- e-mail ------------------------------------------------------------------------------------------------------
EMAIL_URL = env.text("EMAIL_URL", "")
if EMAIL_URL:
    vars().update(environ.Env.email_url_config(EMAIL_URL))
else:
    # The embedded default keeps each message as a file, so that a person can open the verification link.
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = DATA_DIR / "mail"
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Interchain <no-reply@interchain.localhost>")

# --- language and time -------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

# --- content security: nothing from anywhere else, no inline script or style --------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "form-action": [
            SELF,
            *env.names("CSP_FORM_ACTION", "https://checkout.stripe.com,https://connect.stripe.com"),
            *env.names("STRIPE_API_BASE"),  # the stand-in's payment page: browsers follow a form's redirect only there
        ],
    }
}

# --- API ---------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.CursorPagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": "600/min"},
    "NUM_PROXIES": ALLAUTH_TRUSTED_PROXY_COUNT,  # whose X-Forwarded-For to believe
    "EXCEPTION_HANDLER": "interchain_site.core.api.exception_handler",
    "PAGE_SIZE": 50,
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {"TITLE": "Interchain API", "VERSION": "1", "SERVE_INCLUDE_SCHEMA": False}

# --- Celery: jobs that matter are rows; the queue carries their ids and may be lost (interchain_site/celery.py) -----
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_ROUTES = {"billing.tasks.settlement.*": {"queue": "chain"}, "billing.tasks.proofs.*": {"queue": "chain"}}
CELERY_TIMEZONE = "UTC"

# --- money -------------------------------------------------------------------------------------------------------
STRIPE_SECRET_KEY = env.text("STRIPE_SECRET_KEY", "")
STRIPE_WEBHOOK_SECRET = env.text("STRIPE_WEBHOOK_SECRET", "")
STRIPE_CONNECT_WEBHOOK_SECRET = env.text("STRIPE_CONNECT_WEBHOOK_SECRET", "")  # of the endpoint for connected accounts
STRIPE_API_BASE = env.text("STRIPE_API_BASE", "").rstrip("/")  # empty: Stripe itself
COMMISSION_BASIS_POINTS = env.integer("COMMISSION_BASIS_POINTS", 1_000)  # 10 % of what owners earn, on top of it
DESK_MIN_CENTS = env.integer("DESK_MIN_CENTS", 100)  # Stripe itself takes no less than 50
DESK_MAX_CENTS = env.integer("DESK_MAX_CENTS", 1_000_000)
QUOTE_LOCK_SECONDS = env.integer("QUOTE_LOCK_SECONDS", 900)
CASH_OUT_MIN_CENTS = env.integer("CASH_OUT_MIN_CENTS", 500)  # until staff set rules in the admin
CASH_OUT_DAILY_CENTS = env.integer("CASH_OUT_DAILY_CENTS", 1_000_000)  # for one person, in any 24 hours
CASH_OUT_COUNTRIES = env.names("CASH_OUT_COUNTRIES", "US")  # where Stripe lets us pay out US dollars to banks
CONFIRMATION_SECONDS = env.integer("CONFIRMATION_SECONDS", 900)  # how long a code for a payout works
ADDRESS_HOLD_SECONDS = env.integer("ADDRESS_HOLD_SECONDS", 86_400)  # a new payout address waits; its owner can stop it
WITHDRAWAL_MIN_NTC = env.integer("WITHDRAWAL_MIN_NTC", 1)
WITHDRAWAL_DAILY_NTC = env.integer("WITHDRAWAL_DAILY_NTC", 100_000)  # for one person, in any 24 hours
# NTC bought by card leave only when a stolen card would have been noticed; apps can be paid with them at once.
WITHDRAWAL_CARD_HOLD_SECONDS = env.integer("WITHDRAWAL_CARD_HOLD_SECONDS", 7 * 86_400)
PAYOUT_PUSH_BASIS_POINTS = env.integer("PAYOUT_PUSH_BASIS_POINTS", 200)  # we send a payout that costs up to 2 % in gas
EARNINGS_HOLD_SECONDS = env.integer("EARNINGS_HOLD_SECONDS", 86_400)
CHARGE_INTERVAL_SECONDS = env.integer("CHARGE_INTERVAL_SECONDS", 60)
EPOCH_SECONDS = env.integer("EPOCH_SECONDS", 3600)
RESERVES_SECONDS = env.integer("RESERVES_SECONDS", 86_400)  # how often the public reserves page gets a new snapshot
RESERVES_KEEP = env.integer("RESERVES_KEEP", 7)  # snapshots whose personal proofs can still be downloaded; roots stay
RECONCILE_STRIPE_DAYS = env.integer(
    "RECONCILE_STRIPE_DAYS", 120
)  # how far back Stripe's objects are compared one by one
RECONCILE_SECONDS = env.integer("RECONCILE_SECONDS", 86_400)  # how often ledger, contracts and Stripe are compared
GRACE_SECONDS = env.integer("GRACE_SECONDS", 7 * 86_400)
BALANCE_WARNING_HOURS = [int(hours) for hours in env.names("BALANCE_WARNING_HOURS", "72,24,1")]

# --- Ethereum ----------------------------------------------------------------------------------------------------
ETHEREUM_RPC_URL = env.text("ETHEREUM_RPC_URL", "http://127.0.0.1:8545")
ETHEREUM_CHAIN_ID = env.integer("ETHEREUM_CHAIN_ID", 31337)
ETHEREUM_CHECK_RPC_URL = env.text(
    "ETHEREUM_CHECK_RPC_URL", ""
)  # another provider's node; what is final must be so there too
# When a block counts as final: so many blocks deep (confirmations), or when the chain itself says so (finalized).
ETHEREUM_FINALITY = env.text("ETHEREUM_FINALITY", "confirmations")
ETHEREUM_CONFIRMATIONS = env.integer("ETHEREUM_CONFIRMATIONS", 1 if DEBUG else 12)
ETHEREUM_DEPLOYMENTS_FILE = Path(env.text("ETHEREUM_DEPLOYMENTS_FILE", str(DATA_DIR / "deployments.json")))
# Who signs, per role: an encrypted keystore (Web3 Secret Storage JSON) and the file with its password, or the role's
# address at an external signer (one URL for all). The operator posts epochs, the cashier allots what was bought by card,
# sales opens and closes rounds.
ETHEREUM_SIGNER_URL = env.text("ETHEREUM_SIGNER_URL", "")
ETHEREUM_KEYSTORE_FILE = env.text("ETHEREUM_KEYSTORE_FILE", "")
ETHEREUM_KEYSTORE_PASSWORD_FILE = env.text("ETHEREUM_KEYSTORE_PASSWORD_FILE", "")
ETHEREUM_OPERATOR_ADDRESS = env.text("ETHEREUM_OPERATOR_ADDRESS", "")
ETHEREUM_CASHIER_KEYSTORE_FILE = env.text("ETHEREUM_CASHIER_KEYSTORE_FILE", "")
ETHEREUM_CASHIER_KEYSTORE_PASSWORD_FILE = env.text("ETHEREUM_CASHIER_KEYSTORE_PASSWORD_FILE", "")
ETHEREUM_CASHIER_ADDRESS = env.text("ETHEREUM_CASHIER_ADDRESS", "")
ETHEREUM_SALES_KEYSTORE_FILE = env.text("ETHEREUM_SALES_KEYSTORE_FILE", "")
ETHEREUM_SALES_KEYSTORE_PASSWORD_FILE = env.text("ETHEREUM_SALES_KEYSTORE_PASSWORD_FILE", "")
ETHEREUM_SALES_ADDRESS = env.text("ETHEREUM_SALES_ADDRESS", "")
ETHEREUM_MAX_FEE_GWEI = env.integer("ETHEREUM_MAX_FEE_GWEI", 200)  # a transaction never offers more for gas
ETHEREUM_STUCK_SECONDS = env.integer("ETHEREUM_STUCK_SECONDS", 180)  # not mined after this: send it with a higher fee
SETTLEMENT_ROUND_SECONDS = env.integer("SETTLEMENT_ROUND_SECONDS", 10)  # how often the chain worker looks
# Only for `manage.py deploy_contracts`; on the local chain of the embedded default, empty addresses are Anvil's accounts
# and test tokens. Operator, cashier and sales manager are whoever signs for these roles.
ETHEREUM_PROPOSER_ADDRESS = env.text("ETHEREUM_PROPOSER_ADDRESS", "")  # the timelock acts on its word
ETHEREUM_GUARDIAN_ADDRESS = env.text("ETHEREUM_GUARDIAN_ADDRESS", "")  # may veto an epoch and pause the sale
ETHEREUM_BENEFICIARY_ADDRESS = env.text("ETHEREUM_BENEFICIARY_ADDRESS", "")  # the founders' 5,000,000 NTC, one day
ETHEREUM_TREASURY_ADDRESS = env.text("ETHEREUM_TREASURY_ADDRESS", "")  # receives what the sale takes in
ETHEREUM_STABLECOIN_ADDRESS = env.text("ETHEREUM_STABLECOIN_ADDRESS", "")
ETHEREUM_ETHER_FEED_ADDRESS = env.text("ETHEREUM_ETHER_FEED_ADDRESS", "")  # Chainlink's ETH / USD
ETHEREUM_NTC_FEED_ADDRESS = env.text("ETHEREUM_NTC_FEED_ADDRESS", "")  # a feed of NTC / USD, for the founders' vault
# The local chain's own feed answers once, at deployment: there it may be ten years old.
ETHEREUM_ETHER_FEED_MAX_AGE_SECONDS = env.integer(
    "ETHEREUM_ETHER_FEED_MAX_AGE_SECONDS", 315_360_000 if DEBUG else 4_500
)
ETHEREUM_NTC_FEED_MAX_AGE_SECONDS = env.integer("ETHEREUM_NTC_FEED_MAX_AGE_SECONDS", 90_000)
ETHEREUM_ETHER_USD_BOUNDS = env.names("ETHEREUM_ETHER_USD_BOUNDS", "100,100000")  # an answer outside is not believed
ETHEREUM_NTC_USD_BOUNDS = env.names("ETHEREUM_NTC_USD_BOUNDS", "0.0001,100000")
ETHEREUM_TIMELOCK_SECONDS = env.integer("ETHEREUM_TIMELOCK_SECONDS", 0 if DEBUG else 172_800)
ETHEREUM_CASHIER_DAILY_NTC = env.integer("ETHEREUM_CASHIER_DAILY_NTC", 2_000_000 if DEBUG else 100_000)
ETHEREUM_CLAIM_DELAY_SECONDS = env.integer("ETHEREUM_CLAIM_DELAY_SECONDS", 0 if DEBUG else 86_400)  # time for a veto
DESK_INVENTORY_NTC = env.integer(
    "DESK_INVENTORY_NTC", 1_000_000
)  # bought for the desk in round 1, embedded default only
SALE_FIRST_PRICE_USD = env.text(
    "SALE_FIRST_PRICE_USD", "0.50"
)  # of round 1, embedded default only: staff open the others

# --- nodes -------------------------------------------------------------------------------------------------------
GATEWAY_DOMAIN = env.text("GATEWAY_DOMAIN", "apps.localhost")
GATEWAY_PUBLIC_URL = env.text("GATEWAY_PUBLIC_URL", "http://apps.localhost:8080").rstrip(
    "/"
)  # scheme and port clients use
GATEWAY_ADMIN_URL = env.text("GATEWAY_ADMIN_URL", "http://127.0.0.1:2019")
GATEWAY_PORTAL_UPSTREAM = env.text(
    "GATEWAY_PORTAL_UPSTREAM", ""
)  # host:port; the gateway then serves the portal as well
if GATEWAY_PORTAL_UPSTREAM:  # under this name the gateway asks whether a domain may have a certificate
    ALLOWED_HOSTS.append(GATEWAY_PORTAL_UPSTREAM.rpartition(":")[0])
GATEWAY_LISTEN = env.text("GATEWAY_LISTEN", ":8080")
GATEWAY_ACCESS_LOG = Path(env.text("GATEWAY_ACCESS_LOG", str(DATA_DIR / "gateway" / "access.log")))
GATEWAY_CERTIFICATE_ISSUER = env.text("GATEWAY_CERTIFICATE_ISSUER", "acme")  # Caddy's module; internal: its own CA
GATEWAY_ASKS_PER_MINUTE = env.integer("GATEWAY_ASKS_PER_MINUTE", 600)  # how often Caddy may ask for certificates
# Who is asked for the TXT records that prove domains: addresses, with :port where it is not 53; empty: the system's own.
DNS_SERVERS = env.names("DNS_SERVERS")
GATEWAY_MAX_BODY_BYTES = env.integer("GATEWAY_MAX_BODY_BYTES", 100_000_000)  # of one request, unless staff set another
GATEWAY_APP_REQUESTS_PER_SECOND = env.integer("GATEWAY_APP_REQUESTS_PER_SECOND", 2_000)  # at one gateway; 0: no limit
GATEWAY_CLIENT_REQUESTS_PER_SECOND = env.integer("GATEWAY_CLIENT_REQUESTS_PER_SECOND", 200)  # of one app; 0: no limit
# A gateway goes on serving what vanishes from the routes when more than so many of a hundred live apps do at once.
GATEWAY_GUARD_PERCENT = env.integer("GATEWAY_GUARD_PERCENT", 30)
GATEWAY_GUARD_FROM = env.integer("GATEWAY_GUARD_FROM", 10)  # with fewer live apps nothing is guarded
# Devices behind NAT open SSH tunnels: where they find the server, where it listens, and the ports it gives their apps.
TUNNEL_HOST = env.text("TUNNEL_HOST", "127.0.0.1")
TUNNEL_PORT = env.integer("TUNNEL_PORT", 2222)
TUNNEL_LISTEN = env.text("TUNNEL_LISTEN", f":{TUNNEL_PORT}")
TUNNEL_BIND = env.text("TUNNEL_BIND", "127.0.0.1")  # the address its ports are opened on
TUNNEL_UPSTREAM_HOST = env.text("TUNNEL_UPSTREAM_HOST", "127.0.0.1")  # where gateways find these ports
TUNNEL_CLIENT_HOST = env.text(
    "TUNNEL_CLIENT_HOST", ""
)  # where clients of the directory find them; empty: gateways only
TUNNEL_PORT_FIRST = env.integer("TUNNEL_PORT_FIRST", 20_000)
TUNNEL_PORTS = env.integer("TUNNEL_PORTS", 10_000)  # how many there are
LINK_TIMEOUT_SECONDS = env.integer("LINK_TIMEOUT_SECONDS", 30)
ROLLOUT_AT_ONCE = env.integer("ROLLOUT_AT_ONCE", 1)
ROLLOUT_PROGRESS_SECONDS = env.integer("ROLLOUT_PROGRESS_SECONDS", 600)
HANDOVER_SECONDS = env.integer("HANDOVER_SECONDS", 10)
LINK_RETURN_SECONDS = env.integer("LINK_RETURN_SECONDS", 5)
PING_ANSWER_SECONDS = env.integer("PING_ANSWER_SECONDS", 1)
SPOT_CHECK_SECONDS = env.integer("SPOT_CHECK_SECONDS", 6 * 3600)
SELF_STOP_SECONDS = env.integer("SELF_STOP_SECONDS", 20)
DIRECTORY_RECORD_SECONDS = env.integer("DIRECTORY_RECORD_SECONDS", 7 * 86_400)
DIRECTORY_INTERVAL_SECONDS = env.integer("DIRECTORY_INTERVAL_SECONDS", 30)
READING_INTERVAL_SECONDS = env.integer("READING_INTERVAL_SECONDS", 30)
NODE_IMAGE = env.text("NODE_IMAGE", "")  # the agent as a container image (nodes/agent/Dockerfile); empty: not offered
# Whether a device may be reached at a private address: on for a portal on this machine, off for one that serves strangers.
PRIVATE_ENDPOINTS = env.flag("PRIVATE_ENDPOINTS", not SECURE)

# --- looking after it --------------------------------------------------------------------------------------------
METRICS_TOKEN = env.text("METRICS_TOKEN", "")  # what Prometheus sends as its bearer token; empty: /metrics/ is closed

# --- logs --------------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processor": structlog.dev.ConsoleRenderer(colors=False) if DEBUG else structlog.processors.JSONRenderer(),
            "foreign_pre_chain": [
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
        }
    },
    "filters": {"no_links": {"()": "interchain_site.core.logs.WithoutLinks"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},
        "django.server": {"level": "WARNING"},
        # uvicorn says three lines of every WebSocket: a device's link is no news (nodes/link.py).
        "uvicorn.error": {"filters": [] if DEBUG else ["no_links"]},
    },
}
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
