"""What each image of the documents runs on this machine: the built-in half of the image map.

What comes in: nothing. What goes out: ``BUILT_IN``, repository pattern (without host and tag) to
``Image``; the first that matches wins, so the narrower pattern stands first.

Invariant: an image that needs a program which fsm does not bring along names it in ``needs`` and
says in ``get`` where it comes from. Not done here: looking up and filling in (``images``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Image:
    """What an image would run by itself.

    Attributes:
        entrypoint: replaced by ``command`` of a container.
        cmd: replaced by ``args``; dropped when there is a ``command``.
        env: defaults below the container's own ``env``.
        programs: files that only the image has, by the command lines that stand in for them.
        tools: commands that behave otherwise in the image, by what stands in where it is installed.
        passes: ``args`` that begin with no flag are a command of their own (what the entrypoint
            script of many images does).
        passes_programs: the same of ``args`` that begin with the name of a program.
        needs: programs (``python:NAME`` for modules) without which it cannot run.
        get: how to install those.

    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    programs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tools: dict[str, tuple[str, ...]] = field(default_factory=dict)
    passes: bool = False
    passes_programs: bool = False
    needs: tuple[str, ...] = ()
    get: str = ""


_FSM = ("{python}", "-c", "from fsm.cli.main import main; main()")


def _app(module: str) -> Image:
    run = ("{python}", "-m", f"fsm_bookstore.{module}")
    return Image(run, programs={f"/{module}": run})


def _ours(program: str) -> tuple[str, ...]:
    return ("{python}", "-m", f"fsm.standalone.programs.{program}")


_SHELL = Image((), ("sh",))
# Busybox's tells the server when its input has ended, and ends with the answer; Debian's stays.
_NC: dict[str, tuple[str, ...]] = {"nc": ("nc.openbsd", "-N")}
_BUSYBOX = replace(_SHELL, tools=_NC)
_PIPY = Image(("pipy",), programs={"/usr/local/bin/pipy": ("pipy",)})
_BOOKSTORE = _app("bookstore")
_HTTPBIN = Image(
    cmd=("gunicorn", "-b", "0.0.0.0:80", "httpbin:app", "-k", "gevent"),
    needs=("python:gunicorn", "python:httpbin", "python:gevent"),
    get="{python} -m pip install 'gunicorn<24' httpbin gevent",
)
_FORTIO = Image(
    ("fortio",),
    ("server",),
    programs={"/usr/bin/fortio": ("fortio",)},
    needs=("fortio",),
    get="GOBIN=/usr/local/bin go install fortio.org/fortio@v1.66.5",
)
_ECHO = Image(_ours("tcp_echo"), programs={"/tcp-echo-server": _ours("tcp_echo")})
_MARIADB = Image(
    _ours("mariadb"),
    programs={name: _ours("mariadb") for name in ("docker-entrypoint.sh", "mariadbd", "mysqld")},
    needs=("mariadbd", "mariadb-install-db"),
    get="Debian: apt-get install mariadb-server",
)
_REDIS = Image(
    ("redis-server", "--protected-mode", "no"),
    passes=True,
    needs=("redis-server",),
    get="Debian: apt-get install redis-server",
)
_MOSQUITTO_CONFIG = "/mosquitto/config/mosquitto.conf"
_MOSQUITTO = Image(
    (
        *("sh", "-c"),
        f'if [ -e {_MOSQUITTO_CONFIG} ]; then set -- -c {_MOSQUITTO_CONFIG} "$@"; fi;'
        ' exec mosquitto "$@"',
        "mosquitto",
    ),
    programs={"/docker-entrypoint.sh": ()},
    passes=True,
    needs=("mosquitto",),
    get="Debian: apt-get install mosquitto",
)
_NGINX = Image(
    _ours("nginx"),
    programs={"nginx": _ours("nginx"), "/docker-entrypoint.sh": ()},
    needs=("nginx",),
    get="Debian: apt-get install nginx-light",
)
_PROMETHEUS = Image(
    ("prometheus",),
    ("--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"),
    programs={"/bin/prometheus": ("prometheus",)},
    needs=("prometheus",),
    get="Debian: apt-get install prometheus",
)
_PYTHON = ("{python}",)

#: Repository pattern (without host and tag) to what it runs.
BUILT_IN: dict[str, Image] = {
    "flomesh/pipy*": _PIPY,
    "addozhang/httpbin": _PIPY,
    "flomesh/fsm-controller*": Image(_FSM, ("controller",)),
    "flomesh/fsm-injector*": Image(_FSM, ("controller",)),
    "flomesh/fsm-bootstrap*": Image(_FSM, ("bootstrap",)),
    "flomesh/fsm-sidecar-init*": _SHELL,
    "flomesh/fsm*": Image(_FSM, ()),
    "flomesh/bookbuyer": _app("bookbuyer"),
    "openservicemesh/bookbuyer": _app("bookbuyer"),
    "flomesh/bookthief": _app("bookthief"),
    "openservicemesh/bookthief": _app("bookthief"),
    "flomesh/bookstore*": _BOOKSTORE,
    "openservicemesh/bookstore*": _BOOKSTORE,
    "flomesh/bookwarehouse": _app("bookwarehouse"),
    "openservicemesh/bookwarehouse": _app("bookwarehouse"),
    "curlimages/curl": Image(("curl",), ("--help",), tools=_NC, passes_programs=True),
    "kennethreitz/httpbin": _HTTPBIN,
    "flomesh/httpbin": _HTTPBIN,
    "fortio/fortio": _FORTIO,
    "*/tcp-echo-server": _ECHO,
    "mariadb": _MARIADB,
    "mysql": _MARIADB,
    "redis": _REDIS,
    "eclipse-mosquitto": _MOSQUITTO,
    "nginx": _NGINX,
    "nginxinc/nginx-unprivileged": _NGINX,
    "prom/prometheus": _PROMETHEUS,
    "python": Image(cmd=_PYTHON, programs={"/usr/local/bin/python": _PYTHON}),
    "alpine": _BUSYBOX,
    "busybox": _BUSYBOX,
    "debian": _SHELL,
    "ubuntu": _SHELL,
    "flomesh/alpine-debug": _BUSYBOX,
    "*/alpine": _BUSYBOX,
    "*/busybox": _BUSYBOX,
    "*/debian": _SHELL,
    "*/ubuntu": _SHELL,
}
