"""What an app's name and a release may say: one place for page, API and service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.conf import settings

from interchain_site.core.errors import Invalid
from marketplace.errors import BadRelease
from marketplace.models import HealthKind, ProfileChoice, RuntimeChoice

if TYPE_CHECKING:
    from marketplace.services.publishing import ReleaseSpec

SLUG_LENGTH = 40
SLUG = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
RESERVED_SLUGS = frozenset({"admin", "api", "app", "apps", "billing", "gateway", "link", "localhost", "mail", "new", "node", "nodes", "static", "status", "support", "www"})  # fmt: skip

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?"
REFERENCE = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[\w][\w.-]{{0,127}})?@sha256:[0-9a-f]{{64}}")
_OUTSIDE_HOST = re.compile(r"(?:[a-zA-Z0-9-]+\.)+[a-zA-Z][a-zA-Z0-9-]+")
_INSIDE_DOMAINS = ("arpa", "internal", "lan", "local", "localdomain", "localhost")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
PATH = re.compile(r"/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*")
VOLUME_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
SYSTEM_FOLDERS = frozenset({"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr"})  # fmt: skip

MIN_MEMORY_BYTES, MAX_MEMORY_BYTES = 8 * 10**6, 10**12
MIN_CPU_MILLIS, MAX_CPU_MILLIS = 10, 256_000
MAX_DISK_BYTES = 10**14
MAX_VARIABLES, MAX_VARIABLES_BYTES = 100, 32_768


def check_app(name: str, slug: str) -> None:
    """Refuse a name or slug that cannot be used.

    Raises:
        Invalid: by field.
    """
    fields = {}
    if not name or len(name) > 80:
        fields["name"] = "Give the app a name of 1 to 80 characters."
    if not SLUG.fullmatch(slug):
        fields["slug"] = (
            "Use 1 to 40 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen."
        )
    elif slug in RESERVED_SLUGS:
        fields["slug"] = f"“{slug}” is kept for the site itself. Choose another address."
    if fields:
        raise Invalid(fields=fields)


def check_spec(spec: ReleaseSpec, *, has_archive: bool) -> None:
    """Refuse a release that could never run or is not named exactly.

    Raises:
        BadRelease: every field that is wrong, each with what to do.
    """
    fields = {
        **_image_errors(spec.image_reference, has_archive),
        **_size_errors(spec),
        **_health_errors(spec),
        **_variable_errors(spec),
    }
    if spec.profile not in ProfileChoice.values:
        fields["profile"] = f"Choose one of: {', '.join(ProfileChoice.values)}."
    if spec.runtime not in RuntimeChoice.values:
        fields["runtime"] = f"Choose one of: {', '.join(RuntimeChoice.values)}."
    if spec.runtime == RuntimeChoice.GVISOR and spec.outbound:
        fields["runtime"] = (
            "An app under gVisor cannot look up names on the internet. Let it prefer gVisor, or not call out."
        )
    if spec.volume_path and not _is_volume_path(spec.volume_path):
        fields["volume_path"] = "Give the full path of a folder for data, such as /data, outside the system's folders."
    if fields:
        raise BadRelease(fields=fields)


def _image_errors(reference: str, has_archive: bool) -> dict[str, str]:
    if reference and has_archive:
        return {"image_reference": "Give either an image reference or an archive, not both."}
    if not reference and not has_archive:
        return {"image_reference": "Give an image by digest (name@sha256:…), or upload a docker save archive."}
    if reference and not REFERENCE.fullmatch(reference):
        return {
            "image_reference": "Name the image by digest, as in registry.example/team/app@sha256:…; a tag can change "
            "under you. “docker images --digests” shows it."
        }
    if not settings.PRIVATE_ENDPOINTS and _asks_inside(reference):
        return {"image_reference": "Name a registry on the internet by its host name."}
    return {}


def _asks_inside(reference: str) -> bool:
    """Return whether the registry may be something in the device owner's own network, which must not be asked."""
    first, slash, _ = reference.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return False  # Docker takes it for a name on Docker Hub
    host = first.partition(":")[0].lower()
    return not _OUTSIDE_HOST.fullmatch(host) or host.rpartition(".")[2] in _INSIDE_DOMAINS


def _size_errors(spec: ReleaseSpec) -> dict[str, str]:
    fields = {}
    if not 1 <= spec.port <= 65535:
        fields["port"] = "A port is between 1 and 65535."
    if not MIN_MEMORY_BYTES <= spec.memory_bytes <= MAX_MEMORY_BYTES:
        fields["memory_bytes"] = "Memory is between 8 MB and 1 TB."
    if not MIN_CPU_MILLIS <= spec.cpu_millis <= MAX_CPU_MILLIS:
        fields["cpu_millis"] = "CPU is between 10 and 256,000 thousandths of a core."
    if not 0 <= spec.disk_bytes <= MAX_DISK_BYTES:
        fields["disk_bytes"] = "Disk is between 0 and 100 TB."
    return fields


def _health_errors(spec: ReleaseSpec) -> dict[str, str]:
    fields = {}
    if spec.health_kind not in HealthKind.values:
        fields["health_kind"] = "Choose tcp or http."
    for name in ("health_path", "ready_path"):
        path = getattr(spec, name)
        if path and not (len(path) <= 200 and PATH.fullmatch(path)):
            fields[name] = "The path begins with / and has no spaces."
    for name, most in (("health_interval_seconds", 300), ("health_timeout_seconds", 60), ("health_start_seconds", 600)):
        if not 1 <= getattr(spec, name) <= most:
            fields[name] = f"Between 1 and {most} seconds."
    return fields


def _variable_errors(spec: ReleaseSpec) -> dict[str, str]:
    fields = {}
    for name, values in (("environment", spec.environment), ("secrets", spec.secrets)):
        wrong = sorted(key for key in values if not VARIABLE.fullmatch(key))
        if wrong:
            fields[name] = (
                f"Not the name of a variable: {', '.join(wrong[:3])[:200]}. Use letters, digits and underscores."
            )
        elif any("\0" in value for value in values.values()):
            fields[name] = "A value cannot hold a zero byte."
        elif len(values) > MAX_VARIABLES or sum(len(k) + len(v) for k, v in values.items()) > MAX_VARIABLES_BYTES:
            fields[name] = f"At most {MAX_VARIABLES} variables and {MAX_VARIABLES_BYTES // 1024} KB together."
    return fields


def _is_volume_path(path: str) -> bool:
    parts = path.split("/")
    return (
        len(path) <= 200
        and VOLUME_PATH.fullmatch(path) is not None
        and not {".", ".."} & set(parts)
        and parts[1] not in SYSTEM_FOLDERS
    )
