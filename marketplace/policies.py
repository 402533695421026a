"""Who may do what: `check_can_x` raises with the reason, `can_x` answers yes or no. Each rule exists once.

Somebody else's app answers "not found", so that a stranger learns nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.models import AnonymousUser

from interchain_site.core.errors import DomainError, NotAllowed
from interchain_site.core.models import User
from marketplace.errors import AlreadyDeployed, NotDeployed, NotYours, StaffOnly, WrongState
from marketplace.models import App, Deployment
from marketplace.states import DeploymentState, Desired

Person = User | AnonymousUser


def check_can_publish(by: Person) -> None:
    """Any signed-in, active account may publish.

    Raises:
        NotAllowed: nobody is signed in, or the account is closed.
    """
    if not by.is_authenticated or not by.is_active:
        raise NotAllowed("Sign in to publish an app.")


def check_can_see_app(by: Person, app: App) -> None:
    """The publisher and staff see an app.

    Raises:
        NotYours: it is somebody else's.
    """
    if by.pk != app.publisher_id and not by.is_staff:
        raise NotYours


def check_can_change_app(by: Person, app: App) -> None:
    """Only the publisher changes an app, because the publisher pays.

    Raises:
        NotYours: it is somebody else's.
    """
    check_can_publish(by)
    if by.pk != app.publisher_id:
        raise NotYours


def check_can_deploy(by: Person, app: App, live: Deployment | None) -> None:
    """An app is deployed once at a time.

    Raises:
        NotYours: it is somebody else's. AlreadyDeployed: it has a live deployment.
    """
    check_can_change_app(by, app)
    if live is not None:
        raise AlreadyDeployed


def check_can_start(by: Person, deployment: Deployment | None, app: App) -> None:
    """What is stopped, failed, waiting or in grace can be started.

    Raises:
        NotYours, NotDeployed, WrongState.
    """
    live = _live(by, deployment, app)
    if live.state in {DeploymentState.STARTING, DeploymentState.RUNNING, DeploymentState.UNHEALTHY}:
        raise WrongState("The app is running already.")
    if live.state == DeploymentState.STOPPING and live.desired == Desired.RUNNING:
        raise WrongState("The app is about to start again.")


def check_can_stop(by: Person, deployment: Deployment | None, app: App) -> None:
    """What runs or is about to run can be stopped.

    Raises:
        NotYours, NotDeployed, WrongState.
    """
    live = _live(by, deployment, app)
    if live.desired == Desired.STOPPED or live.state in {DeploymentState.STOPPED, DeploymentState.FAILED}:
        raise WrongState("The app is not running.")


def check_can_redeploy(by: Person, deployment: Deployment | None, app: App) -> None:
    """Any live deployment can move to another release.

    Raises:
        NotYours, NotDeployed, WrongState.
    """
    live = _live(by, deployment, app)
    if live.state in {DeploymentState.STOPPING, DeploymentState.GRACE}:
        raise WrongState("Start the app first, then put another release on it.")


def check_can_scale(by: Person, deployment: Deployment | None, app: App) -> None:
    """What is neither stopping nor in grace can run on more or fewer devices.

    Raises:
        NotYours, NotDeployed, WrongState.
    """
    check_can_redeploy(by, deployment, app)


def check_can_delete(by: Person, deployment: Deployment | None, app: App) -> None:
    """Any live deployment can be deleted once.

    Raises:
        NotYours, NotDeployed, WrongState.
    """
    _live(by, deployment, app)


def check_can_edit_prices(by: Person) -> None:
    """Only staff change price lists.

    Raises:
        StaffOnly.
    """
    if not by.is_staff:
        raise StaffOnly


def _live(by: Person, deployment: Deployment | None, app: App) -> Deployment:
    check_can_change_app(by, app)
    if deployment is None or deployment.state == DeploymentState.DELETED:
        raise NotDeployed
    if deployment.state == DeploymentState.DELETING:
        raise WrongState("The app is being deleted; its data is being wiped.")
    return deployment


def _allows(check: Callable[..., None], *args: object) -> bool:
    try:
        check(*args)
    except DomainError:
        return False
    return True


def can_see_app(by: Person, app: App) -> bool:
    return _allows(check_can_see_app, by, app)


def can_change_app(by: Person, app: App) -> bool:
    return _allows(check_can_change_app, by, app)


def can_deploy(by: Person, app: App, live: Deployment | None) -> bool:
    return _allows(check_can_deploy, by, app, live)


def can_start(by: Person, deployment: Deployment | None, app: App) -> bool:
    return _allows(check_can_start, by, deployment, app)


def can_stop(by: Person, deployment: Deployment | None, app: App) -> bool:
    return _allows(check_can_stop, by, deployment, app)


def can_redeploy(by: Person, deployment: Deployment | None, app: App) -> bool:
    return _allows(check_can_redeploy, by, deployment, app)


def can_scale(by: Person, deployment: Deployment | None, app: App) -> bool:
    return _allows(check_can_scale, by, deployment, app)


def can_delete(by: Person, deployment: Deployment | None, app: App) -> bool:
    return _allows(check_can_delete, by, deployment, app)


def can_edit_prices(by: Person) -> bool:
    return _allows(check_can_edit_prices, by)
