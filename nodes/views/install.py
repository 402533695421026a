"""What `curl … | sh` asks for: the install script and the agent itself."""

from __future__ import annotations

import shlex
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

import nodes.agent
from interchain_site.core.errors import DomainError
from nodes.agent import packaging
from nodes.services import enrolment, releases

SCRIPT = Path(nodes.agent.__file__).parent / "install.sh"


@require_GET
def install_script(request: HttpRequest, token: str) -> HttpResponse:
    """The script that makes this computer the device of the token. It is piped into sh, so an error is a script too."""
    try:
        enrolment.check_token(token)
    except DomainError as error:
        return _script(f"echo {shlex.quote(error.message)} >&2\nexit 1\n")
    text = SCRIPT.read_text()
    return _script(text.replace("__PORTAL_URL__", settings.PORTAL_URL).replace("__TOKEN__", token))


@require_GET
def agent_archive(request: HttpRequest) -> HttpResponse:
    """The agent as a wheel: the newest version that is for every device, or else this very source. Nothing of the portal."""
    release = releases.newest_for_all()
    wheel = releases.file_of(release.sha256).read_bytes() if release else packaging.build_archive()
    name = f"{packaging.NAME}-{release.version}-py3-none-any.whl" if release else packaging.ARCHIVE_NAME
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(wheel, content_type="application/zip", headers=headers)


def _script(text: str) -> HttpResponse:
    return HttpResponse(text, content_type="text/x-shellscript; charset=utf-8", headers={"Cache-Control": "no-store"})
