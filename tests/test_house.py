"""The house as DESIGN.md draws it: imports run one way among rooms and among files, light rooms stay light, no module grows too long."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "streamcodec"

# What each room may import of the package besides itself. `types`, `errors`, `config` <- `model` <- `engine` <- `scheduler` <- `codec` <-
# `server` <- `cli`; `bitstream` <- `codec`; `bitstream`, `protocol`, `audio` <- `server`, `client` <- `cli`, `clients`. "streamcodec" is
# the root module: its version, and names that it resolves lazily.
GROUND = {"types", "errors", "config", "defaults", "published", "capabilities", "output_file"}
MAY_IMPORT = {
    "types": set[str](),
    "errors": set[str](),
    "config": {"errors"},
    "defaults": set[str](),
    "published": {"config"},
    "capabilities": {"config"},
    "gc_freeze": set[str](),
    "output_file": {"errors"},
    "pem": {"errors"},
    "processors": set[str](),
    "bitstream": GROUND,
    "model": GROUND,
    "engine": {"model", *GROUND},
    "scheduler": {"engine", *GROUND},
    "audio": GROUND,
    "codec": {"scheduler", "engine", "model", "audio", "bitstream", *GROUND},
    "compat": {"codec", "engine", "model", *GROUND},
    "tokenizer": {"codec", "audio", "bitstream", *GROUND},
    "protocol": {"bitstream", *GROUND},
    "recording": {"protocol", "bitstream", *GROUND},
    "server": {
        "streamcodec",
        "pem",
        "processors",
        "codec",
        "scheduler",
        "engine",
        "model",
        "audio",
        "protocol",
        "recording",
        "bitstream",
        *GROUND,
    },
    "client": {"streamcodec", "pem", "protocol", "recording", "bitstream", "audio", *GROUND},
    "training": {"streamcodec", "codec", "engine", "model", "audio", *GROUND},
    "streamcodec": {"codec", "gc_freeze", "config", "errors"},
    "cli": {"streamcodec", "audio", *GROUND},
    "clients": {"streamcodec", "client"},
    "experiments": {"streamcodec", "audio", "model"},
}
# What a room may import only inside a function, so that importing the room does not load it.
MAY_IMPORT_LAZILY = {
    "client": {"codec"},
    "cli": {"bitstream", "codec", "model", "protocol", "recording", "server", "client", "training", "tokenizer", "gc_freeze", "processors"},
    "streamcodec": {"codec"},
}

# Packages that a room must do without.
HEAVY = {"torch", "transformers", "encodec", "safetensors", "huggingface_hub", "openvino", "onnxruntime", "numba", "llvmlite"}
SOCKETS = {"asyncio", "websockets", "uvloop", "socket", "ssl", "http", "nats"}
SOUND = {"sounddevice", "soundfile", "soxr"}
SERVING = {"prometheus_client", "h11", "httpx2", "pydantic", "pydantic_settings"}
FORBIDDEN = {
    "errors": SERVING | HEAVY | SOCKETS | SOUND | {"numpy", "msgpack"},
    "config": SERVING | HEAVY | SOCKETS | SOUND | {"numpy", "msgpack"},
    "defaults": SERVING | HEAVY | SOCKETS | SOUND | {"numpy", "msgpack"},
    "published": SERVING | HEAVY | SOCKETS | SOUND | {"numpy", "msgpack"},
    "capabilities": SERVING | HEAVY | SOCKETS | SOUND | {"numpy", "msgpack"},
    "output_file": SERVING | HEAVY | SOCKETS | SOUND | {"numpy", "msgpack"},
    "pem": SERVING | HEAVY | (SOCKETS - {"ssl"}) | SOUND | {"numpy", "msgpack"},
    "types": SERVING | HEAVY | SOCKETS | SOUND | {"msgpack"},
    "bitstream": SERVING | HEAVY | SOCKETS | SOUND,
    "model": SERVING | SOCKETS | SOUND | {"msgpack"},
    "engine": SERVING | SOCKETS | SOUND | {"msgpack"},
    "scheduler": SERVING | HEAVY | SOCKETS | SOUND | {"msgpack"},
    "codec": SERVING | SOCKETS | SOUND | {"msgpack"},
    "tokenizer": SERVING | SOCKETS | SOUND | {"msgpack"},
    "compat": SERVING | SOCKETS | SOUND | {"msgpack", "transformers", "encodec", "audiolm_pytorch"},
    "audio": SERVING | HEAVY | SOCKETS | {"msgpack"},
    "protocol": SERVING | HEAVY | SOCKETS | SOUND,
    "recording": SERVING | HEAVY | SOCKETS | SOUND,
    "server": HEAVY | SOUND | {"msgpack"},
    "client": SERVING | HEAVY | SOUND | {"msgpack"},
    "clients": SERVING | HEAVY | SOUND | {"msgpack", "numpy", "websockets"},
}
# Beyond the standard library.
ONLY_THIRD_PARTY = {
    "types": {"numpy"},
    "errors": set[str](),
    "config": set[str](),
    "defaults": set[str](),
    "published": set[str](),
    "capabilities": set[str](),
    "output_file": set[str](),
    "pem": set[str](),
    "bitstream": {"msgpack", "numpy"},
    "protocol": {"msgpack", "numpy"},
    "recording": {"msgpack"},
    "audio": {"numpy", "av", *SOUND},
}

LONGEST_MODULE = 350
LONGER_FOR_A_REASON = {
    "protocol/messages.py": "one frozen dataclass per message with its parse beside its serialize: a table, told in one place",
}


@dataclass(frozen=True)
class Import:
    """One imported module, absolute, where it stands and whether only a call reaches it."""

    module: str
    file: Path
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def modules() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "clients").rglob("*.py")])


def room_of(file: Path) -> str:
    """The first name below the package: a folder, or a module that stands alone. The experiments, which look into models, are no client."""
    if not file.is_relative_to(PACKAGE):
        return "experiments" if file.stem == "experiments" else "clients"
    first = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "streamcodec" if first == "__init__" else first


@cache
def imports_of(file: Path) -> tuple[Import, ...]:
    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, file, child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = absolute(file, child)
                # `from streamcodec import audio` may name a room, and `from streamcodec.audio import files` a module.
                yield from (Import(f"{base}.{alias.name}", file, child.lineno, lazy) for alias in child.names)
            elif not is_the_programs_own_start(child):
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from visit(child, lazy or inside or is_for_type_checkers(child))

    return tuple(visit(ast.parse(file.read_text(encoding="utf-8")), False))


def absolute(file: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join([*parts[: len(parts) - node.level], *([node.module] if node.module else [])])


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def is_the_programs_own_start(node: ast.AST) -> bool:
    """`if __name__ == "__main__"`, which nobody reaches by importing."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def room_imported(found: Import) -> str | None:
    """The room of this house that an import reaches, or None for the outside."""
    first, _, rest = found.module.partition(".")
    if first == "clients":
        return first
    if first != "streamcodec":
        return None
    second = rest.partition(".")[0]
    if (PACKAGE / second).is_dir() or (PACKAGE / f"{second}.py").is_file():
        return second or "streamcodec"
    return "streamcodec"


every_module = pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))


@every_module
def test_imports_run_one_way_through_the_house(file: Path) -> None:
    room = room_of(file)
    assert room in MAY_IMPORT, f"{room} is no room of DESIGN.md: say here what it may import"
    allowed = MAY_IMPORT[room] | {room}
    lazily = allowed | MAY_IMPORT_LAZILY.get(room, set())
    for found in imports_of(file):
        target = room_imported(found)
        assert target is None or target in (lazily if found.lazy else allowed), f"{found}: {room} must not"


@every_module
def test_no_room_imports_a_package_that_it_must_do_without(file: Path) -> None:
    room = room_of(file)
    for found in imports_of(file):
        package = found.module.partition(".")[0]
        # The front door names what it needs before it opens: torch and safetensors, inside `load`.
        assert package not in FORBIDDEN.get(room, set()), f"{found}: {room} must not"
        if room in ONLY_THIRD_PARTY and package != "streamcodec":
            assert package in sys.stdlib_module_names | ONLY_THIRD_PARTY[room], f"{found}: {room} is the standard library and little else"
        assert room not in ("cli", "codec") or package not in HEAVY or found.lazy, f"{found}: only a call may load it"
        assert package != "httpx2" or found.lazy, f"{found}: it takes a while to load, and few servers and commands need it"


@every_module
def test_sound_devices_are_opened_lazily(file: Path) -> None:
    # Importing sounddevice fails where PortAudio is absent, as on a server.
    for found in imports_of(file):
        assert found.module.partition(".")[0] != "sounddevice" or found.lazy, f"{found}: only a call may load it"


@every_module
def test_no_wait_swallows_an_interrupt(file: Path) -> None:
    # Python 3.11's wait_for returns as if nothing had happened if it is cancelled in the turn in which its awaitable is done.
    assert "asyncio.wait_for(" not in file.read_text(encoding="utf-8"), f"{file}: use asyncio.timeout"


def test_openvino_is_imported_by_the_one_module_that_keeps_it_from_reporting_to_its_vendor() -> None:
    """Also in tests and benchmarks: in a process that imported it otherwise, each conversion reports, and takes twice as long."""
    files = [*modules(), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    importing = {file for file in files for found in imports_of(file) if found.module.partition(".")[0] == "openvino"}
    assert importing == {PACKAGE / "engine" / "openvino" / "network.py"}


def test_rooms_do_not_form_circles() -> None:
    edges = {room: {*others, *MAY_IMPORT_LAZILY.get(room, ())} - {room, "streamcodec"} for room, others in MAY_IMPORT.items()}
    assert circles(edges) == []


def test_files_do_not_form_circles() -> None:
    """Every import counts: one that only a call reaches, and one that only a type checker sees."""
    files = modules()
    names = {file: str(file.relative_to(PACKAGE if file.is_relative_to(PACKAGE) else ROOT)) for file in files}
    edges = {
        names[file]: {names[target] for found in imports_of(file) for target in files_imported(found) if target != file} for file in files
    }
    assert circles(edges) == []


def test_a_circle_is_found_where_there_is_one() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set()}) == [{"a", "b", "c"}]
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []
    [found] = [found for found in imports_of(PACKAGE / "client" / "pipeline.py") if found.module == "streamcodec.codec.Codec"]
    assert found.lazy and files_imported(found) == [PACKAGE / "codec" / "__init__.py"], "imports for type checkers count"


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """The groups of nodes each of which reaches all others of its group."""

    def reached(node: str) -> set[str]:
        seen, ahead = set[str](), [node]
        while ahead:
            for target in edges[ahead.pop()] - seen:
                seen.add(target)
                ahead.append(target)
        return seen

    reach = {node: reached(node) for node in edges}
    groups = {frozenset({other for other in reach[node] if node in reach[other]}) for node in edges if node in reach[node]}
    return sorted((set(group) for group in groups), key=sorted)


def files_imported(found: Import) -> list[Path]:
    """The file of this house that an import names, if it names one: a module, or the package that a name is taken from."""
    base = ROOT.joinpath(*found.module.split("."))
    candidates = [base.with_suffix(".py"), base / "__init__.py", base.parent.with_suffix(".py"), base.parent / "__init__.py"]
    return [file for file in candidates if file.is_file()][:1]


@every_module
def test_no_module_grows_past_its_measure(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    name = str(file.relative_to(PACKAGE)) if file.is_relative_to(PACKAGE) else str(file.relative_to(ROOT))
    assert lines <= LONGEST_MODULE or name in LONGER_FOR_A_REASON, f"{name} has {lines} lines, expected at most {LONGEST_MODULE}: split it"


@pytest.mark.parametrize(
    "module", ["streamcodec", "streamcodec.client", "streamcodec.protocol", "streamcodec.audio", "streamcodec.config", "streamcodec.codec"]
)
def test_importing_a_light_room_loads_neither_torch_nor_a_sound_device(module: str) -> None:
    heavy = sorted(HEAVY | SERVING | {"sounddevice"})
    script = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_no_two_test_files_have_one_name() -> None:
    """Test folders are no packages: pytest would import one of two twins and refuse the other."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    twins = {file.name for file in files if file.name != "conftest.py" and [f.name for f in files].count(file.name) > 1}
    assert files and not twins


def test_no_two_classes_have_one_name() -> None:
    """A reader who searches for a class finds one; a leading underscore is no difference. `compat` has the names that others gave."""
    named: dict[str, list[str]] = {}
    own = [file for file in PACKAGE.rglob("*.py") if room_of(file) != "compat"]
    for file in [*own, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "clients").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                named.setdefault(node.name.lstrip("_"), []).append(str(file.relative_to(ROOT)))
    assert len(named) > 100
    assert {name: files for name, files in named.items() if len(files) > 1} == {}
