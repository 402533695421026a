"""The program a trial of gVisor runs (gvisor.py): `gvisor_trial.c`, compiled, so that nothing need be downloaded for it.

Made by, and for ARM64 with `aarch64-linux-gnu-gcc`, `-mno-outline-atomics` in place of `-fcf-protection=none`; a test makes it again:

    gcc -Os -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-ident \
        -fno-tree-loop-distribute-patterns -fno-pie -no-pie -fcf-protection=none \
        -Wl,--build-id=none,-n,-z,noseparate-code,-s gvisor_trial.c
"""

from __future__ import annotations

import base64
import platform
import zlib

PORT = 8080
VOLUME = "/data"
_PROGRAMS = {
    "x86_64": (
        "eNq1U0FoE0EUnc02MUbLxosoCC66IEGaZHuSUiSLVmZx1RZTe450qbVptqRjTUBQaQMdS9CDRw9epZce12rjxkLT9FAhB60XD0Kh"
        "mCrVQ1svXf/sbkrVIII4sAzv///e+/N35m6XdsHHcaixfOgsYkjgEg5OePENfrcEYmegLoFaEO/U+uGb8XIzHqOxn/J4jb3h1LNK"
        "+gPo71fY21W6oW6taAJewIXNfGBhXxu2K8+ZqkYtuYa3vuLx7f1jATxUDdXXSyFI4EKVnHSzdgUKWNUmpovjr+OTfbaHyvUVTLfn"
        "lT65ZvrQ8UfKNaVXSfZexffXxROgQZPSEa04IYk+Bs5LYY3Om8N8Aj0IT9TIQdW2sG0pk912/UvpBYSV2XvQlMkmiyuVJ7ZtzypA"
        "FfyYVnDBykUUp+kuuabRRY0uCX65ptKyycaE6VuA9qVCVRUuf8d0R6OVNR4kVGqZT5t7Vv+H58Md5lk2n+3xLDuePeAJOuYAUF/x"
        "zvSXcfGxxGalRZaYJfwgKy+Z0025Gn2zJrvqdV7lyvJnphZhatAxKnFOS58E/2wYuQMP4iKRwnjqjhQ0ZeScCvQPyzVG7GRErnGM"
        "+jGnjCXaXZ1SsMHILStzpwEoJcbBxbQkKo6l8hLuNFIj7xVnHnAtPA2NrjmqmLZIzDKo0Q2N2hCY6pQgL1uYwnk+Cn7T6QCimH5w"
        "x7vJEFw9TL9BW9M4meyOydG42B6Pi1cutobOGRmiZ0hbMj+id4hEz5HYSDo1mGkNtYayhkFEJI4Z6VvDuohCKGOIQ3o2o6fFtDHQ"
        "IaKYMaJnYrezgwQ0UKw/RVK7CEVHb4ySLEldR1Emi6JZgxWgf10HvDcc+O29u2vO93M99wv/kBdr9zB7Qu7u4puoOX/vzjfp650X"
        "PIr+7P8DcmtPhg=="
    ),
    "aarch64": (
        "eNqtVE9IFGEUf/Nn3WHdXRSElKBGLfBgu5sgqJeWdY2Fgkr24E23dUpt3ZF1KvsDjukh8NKEESiVmAfd0xKkx7Q8BB6SoYKkw66s"
        "Vkc7LZRM75v9xl1Xgw598PHe+73f+95735tvRjsunmcZBqzFwjIQq4fxm7af4j5+n4JYC/L8YAPe5Npwp6gvRSMs2cXBASlQ3pVt"
        "pbcM/n1VUHkOYLd2fmxzACA8Z1M72SpoqQNVDzKqzgJUBe7zM/XC2+nRU7C7YBhhggcAXq9w3Z9PIx4Q1qZf4o5O8TPRFajkMD5n"
        "GMcyHCQFu6r3ONXHdSFV53yqjr19zCI+y+SWBUHVSR4O8ngDcrfRx6Cd5vgkS/E3WN/8xotpgpGczuCEbkQb1/3o3xkXtDT36ieJ"
        "2bsHi3scaN+4smTazixia4+gwqUx4G8d46HZtENubdMwnpLa0shbRX0HddP3lXI5ylXd2oci7hLqWYsL7jyXhWYW69mK1k1msL4A"
        "8OsP3dhzUV8kvkfILZlxgltz4p3imLVVvKcveE+WnqH6GOo/qP4AdfwuWucMo5n0/4TW8L5a1Un/tUBmVMgl1OCdoD/TDhrL5rEV"
        "Pre0UK7qosk5yJ8A+zrpLVRz2EdmoUI+1k+xNGdLZsZB+46zYv1FeQUyM/Rx9uQW1mnNk2DWueaZ2NcEwOQGSpK3geRlCn71l7H0"
        "CX2hcPiy96zHJzb5fOKlCy5HuxxXpLhyJnxnSGoTFWlE8Q7FIv1xl8PlSMiyIoJ4S47dHJREcEBcFm9IibgUE2Py9TYRvPKQFPfe"
        "TvQreAZ4eyNKZN8qvAPmbifwIyeY486TJlaNO/vbMLqK3ksj7oa9AlZN33MMsSx5uAH3bLDj2Zrw/J0AnuG+YSWhRK6ChxQMnoRM"
        "UoNH6uu+logMSvBfVjmpHXfZof9Ffk2xB/l8SXwljW+idpDzU5m3B0r4TImsobqVJkXjU9Z/qiReOOI87oi+BFpo/V/yW+sPYMVE"
        "9Q=="
    ),
}


def program(machine: str = "") -> bytes:
    """Return the program for this processor; b"" where there is none."""
    found = _PROGRAMS.get(machine or platform.machine())
    return zlib.decompress(base64.b64decode(found)) if found else b""
