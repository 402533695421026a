from marketplace.models.app import App, HealthKind, ProfileChoice, Release, RuntimeChoice
from marketplace.models.charge import Charge, ChargeCursor, ChargePeriod
from marketplace.models.deployment import Deployment, DeploymentEvent
from marketplace.models.domain import Domain
from marketplace.models.notice import BalanceWatch, Notice
from marketplace.models.price_list import Price, PriceList

__all__ = [
    "App",
    "BalanceWatch",
    "Charge",
    "ChargeCursor",
    "ChargePeriod",
    "Deployment",
    "DeploymentEvent",
    "Domain",
    "HealthKind",
    "Notice",
    "Price",
    "PriceList",
    "ProfileChoice",
    "Release",
    "RuntimeChoice",
]
