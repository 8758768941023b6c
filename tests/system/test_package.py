"""The Debian packages as they are built: nothing for lintian to say, what is in them, and what they depend on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import rig_nspawn

pytestmark = pytest.mark.timeout(rig_nspawn.MAKING)

ROOMS = ("client", "daemon", "hwio", "issuer", "policy")
NAMES = {"featurekeyd", "featurekey-issue", "python3-featurekeyd"}


def ran(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    """The built packages by name."""
    if why := rig_nspawn.cannot_build():
        rig_nspawn.leave_out(why)
    return {path.name.partition("_")[0]: path for path in rig_nspawn.build_packages()}


def contents(package: Path) -> dict[str, str]:
    """The paths in a package, each with its mode."""
    lines = [line.split(None, 5) for line in ran("dpkg-deb", "-c", package).splitlines()]
    return {it[5].removeprefix(".").partition(" ->")[0]: it[0] for it in lines}


def test_lintian_has_nothing_to_say(packages: dict[str, Path]) -> None:
    lintian = shutil.which("lintian")
    if lintian is None:
        rig_nspawn.leave_out("lintian is not installed: ./dev test installs it")
    (changes,) = packages["featurekeyd"].parent.glob("*.changes")
    assert ran(lintian, "--fail-on", "error,warning", "--allow-root", changes) == ""


def test_every_package_is_built_and_brings_no_more_than_it_should(packages: dict[str, Path]) -> None:
    assert set(packages) == NAMES
    host, modules = contents(packages["featurekeyd"]), contents(packages["python3-featurekeyd"])
    assert not any("/featurekeyd/issuer/" in path for path in [*host, *modules]), "a host needs nothing of the vendor's"
    assert any(path.endswith("/featurekeyd/issuer/command.py") for path in contents(packages["featurekey-issue"]))
    everything = [path for package in packages.values() for path in contents(package)]
    assert [path for path in everything if path.endswith((".pyc", "__pycache__/", ".md~"))] == []
    files = [path for path in everything if not path.endswith("/")]
    assert len(files) == len(set(files))


def test_every_tracked_module_is_in_a_package(packages: dict[str, Path]) -> None:
    brought = {path for package in packages.values() for path in contents(package)}
    listed = ran("git", "-C", rig_nspawn.CHECKOUT, "ls-files", *ROOMS).split()
    wanted = {
        f"/usr/lib/python3/dist-packages/featurekeyd/{path}" for path in listed if path.endswith((".py", ".varlink"))
    }
    assert len(wanted) > 100
    assert wanted - brought == set()


def test_the_settings_are_kept_on_an_upgrade(packages: dict[str, Path], tmp_path: Path) -> None:
    ran("dpkg-deb", "-e", packages["featurekeyd"], tmp_path / "control")
    assert (tmp_path / "control/conffiles").read_text().split() == ["/etc/featurekeyd/featurekeyd.toml"]


def test_programs_start_python_isolated_and_with_what_the_package_carries(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    for package in packages.values():
        ran("dpkg-deb", "-x", package, tmp_path)
    programs = sorted((tmp_path / "usr/bin").iterdir())
    assert len(programs) == 5
    for program in programs:
        first, *rest = program.read_text().splitlines()
        assert first == "#!/usr/bin/python3 -I"
        assert any('sys.path.insert(0, "/usr/lib/featurekeyd/vendored")' in line for line in rest)
    (extension,) = (tmp_path / "usr/lib/featurekeyd/vendored/msgspec").glob("_core*.so")
    assert extension.read_bytes()[:4] == b"\x7fELF"


def test_the_completion_for_zsh_is_a_script_that_zsh_reads(packages: dict[str, Path], tmp_path: Path) -> None:
    ran("dpkg-deb", "-x", packages["featurekeyd"], tmp_path)
    script = tmp_path / "usr/share/zsh/vendor-completions/_featurekeyctl"
    text = script.read_text()
    assert text.startswith("#compdef featurekeyctl")
    # zsh loads the script when the first TAB is pressed: it has to answer then, and not only to register.
    _, _, end = text.rpartition("\ncompdef ")
    function, program, *branch = end.split()
    assert program == "featurekeyctl;"
    assert " ".join(branch) == f'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then {function} "$@" fi'
    assert f"{function}() {{" in text
    if zsh := shutil.which("zsh"):
        ran(zsh, "-n", script)


def test_every_dependency_of_the_project_is_debians_or_carried(packages: dict[str, Path]) -> None:
    depends = rig_nspawn.dependencies(list(packages.values()))
    carried = re.findall(r"^(\w+)==", (rig_nspawn.CHECKOUT / "debian/vendored.txt").read_text(), re.MULTILINE)
    names = {"pyserial": "serial", "pyusb": "usb", "systemd-python": "systemd"}
    text = (rig_nspawn.CHECKOUT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    for name in re.findall(r'"([\w-]+)', listed):
        assert name in carried or f"python3-{names.get(name, name)}" in depends, name


PINNED = "msgspec-0.22.0.tar.gz"


def carried(folder: Path) -> subprocess.CompletedProcess[str]:
    """What debian/carried, through which every build goes, says of a folder of archives."""
    command = [rig_nspawn.CHECKOUT / "debian/carried", folder]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_archive_with_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / PINNED).write_bytes(b"something else")
    done = carried(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{PINNED} has not the hash that is pinned" in done.stderr


@pytest.mark.parametrize("other", ["msgspec-0.22.0.post1.tar.gz", "msgspec-0.22.0.tar.gz.asc", ".hidden", "-rf"])
def test_an_archive_beside_the_pinned_one_is_refused_whatever_its_name(tmp_path: Path, other: str) -> None:
    if why := rig_nspawn.cannot_build():
        rig_nspawn.leave_out(why)
    shutil.copy(rig_nspawn.BUILD / "vendored" / PINNED, tmp_path)
    assert carried(tmp_path).stdout == f"{tmp_path / PINNED}\n"
    (tmp_path / other).write_bytes(b"something else")
    done = carried(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{other} is not pinned" in done.stderr


def test_a_missing_archive_is_told_with_the_cure(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        done = carried(folder)
        assert done.returncode == 1
        assert "./dev vendor fetches what is pinned" in done.stderr


def test_the_package_is_unpacked_from_nothing_but_what_was_checked() -> None:
    rules = (rig_nspawn.CHECKOUT / "debian/rules").read_text()
    (line,) = [line for line in rules.splitlines() if "tar -x" in line]
    assert line.strip().startswith('archive="$$(debian/carried $(CARRIED))" && tar -xf "$$archive" -C')


def test_what_fetching_runs_is_pinned_by_hash_and_is_what_the_environment_has() -> None:
    lines = (rig_nspawn.CHECKOUT / "debian/fetching.txt").read_text().splitlines()
    pins = dict(re.findall(r"^([\w-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", "\n".join(lines), re.MULTILINE))
    assert len(pins) == len([line for line in lines if not line.startswith("#")]) >= 3
    constraints = (rig_nspawn.CHECKOUT / "constraints.txt").read_text()
    other = dict(re.findall(r"^([\w-]+)==(\S+)$", constraints, re.MULTILINE))
    assert [name for name in pins if other.get(name, pins[name]) != pins[name]] == []


def build(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(rig_nspawn.CHECKOUT / "debian/build"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_folder_that_was_not_made_by_a_build_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mine").write_text("of somebody")
    done = build("1.0", tmp_path)
    assert done.returncode == 1
    assert "was not made here" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["tree", "mine"]


@pytest.mark.parametrize("version", ["", "x1", "1/../2", "1 2", "1)", "1&", "1-2", "1\n2"])
def test_a_version_that_debian_has_not_is_refused_before_anything_is_made(tmp_path: Path, version: str) -> None:
    done = build(version, tmp_path / "folder")
    assert done.returncode == 1
    assert "the version" in done.stderr
    assert not (tmp_path / "folder").exists()


def test_a_version_without_a_folder_is_refused() -> None:
    done = build("1.0")
    assert (done.returncode, done.stderr) == (1, "build [VERSION FOLDER]: both or none\n")
