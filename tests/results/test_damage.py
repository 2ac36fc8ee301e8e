"""Whatever becomes of the files of a sweep: never a wrong number, never a trace, and the same command mends it."""

import contextlib
import errno
import json
import os
import random
import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from dln.__main__ import main
from dln.base import sealed
from dln.cli.table import print_table
from dln.errors import ConfigError, DamagedError, StorageError
from dln.results import frames, sweep
from dln.results.finals import final_values
from dln.results.frames import load_sweep, merge_sweeps, scan_sweep
from dln.results.run import is_whole, load_run, load_summary
from dln.results.sweep import SweepStore
from dln.sweeps.driver import run_sweep
from tests.sweeps.test_driver import plan_of

pytestmark = pytest.mark.long

GRID = ["training.lr=0.001,0.002,50", "model.gamma=1,1.5", "metrics=[layer_norms]"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep in two files, with directories of its runs, and what readers make of it."""
    place = tmp_path_factory.mktemp("sweep") / "s"
    run_sweep(plan_of(GRID[0], "model.gamma=1", GRID[2]), place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SweepStore, "compact", lambda self, order: None)
        run_sweep(plan_of(*GRID), place)
    assert [path.parent.name for path in SweepStore(place).files()] == ["s", "parts"]
    runs = {str(path.relative_to(place)): load_run(path) for path in sorted(place.glob("[0-9]*"))}
    assert len(runs) == 6
    return place, load_sweep(place, constants=True), final_values(place), runs


def every_file(place):
    return sorted(path for path in place.rglob("*") if path.is_file() and path.name != ".lock")


@contextlib.contextmanager
def replaced(path, content):
    """The file holds something else while the block runs; None: it is a directory."""
    before = path.read_bytes()
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    try:
        yield
    finally:
        path.rmdir() if content is None else path.unlink()
        path.write_bytes(before)


def read_all(undisturbed, path, out, caplog):
    """Every reader gives what it gave before the damage, or names the file."""
    place, frame, final, runs = undisturbed

    def same(read, expected):
        try:
            found = read()
        except DamagedError as error:
            assert path.name in str(error)  # noqa: PT017
            return
        assert_frame_equal(found, expected)

    def merged():
        merge_sweeps([place], out)
        return load_sweep(out, constants=True)

    if path.relative_to(place).parts[0] not in runs:
        same(lambda: load_sweep(place, constants=True), frame)
        same(lambda: scan_sweep(place).collect(), frame)
        same(lambda: final_values(place), final)
        same(merged, frame)
        shutil.rmtree(out, ignore_errors=True)
        return
    name = path.relative_to(place).parts[0]
    caplog.clear()
    try:
        history, whole = load_run(place / name), runs[name]
    except DamagedError as error:
        assert path.name in str(error)  # noqa: PT017
        return
    assert history.records == whole.records[: len(history)]
    assert (history.records, history.events) == (whole.records, whole.events) or path.name in caplog.text


def test_no_flipped_bit_is_a_wrong_number_or_a_trace(undisturbed, tmp_path, caplog):
    rng = random.Random(7)
    for path in every_file(undisturbed[0]):
        content = path.read_bytes()
        for bit in (rng.randrange(8 * len(content)) for _ in range(20 if path.suffix == ".parquet" else 4)):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            with replaced(path, damaged):
                read_all(undisturbed, path, tmp_path / "out", caplog)


FOREIGN = pa.BufferOutputStream()
pq.write_table(pa.table({"run": ["x"], "training.lr": [1.0]}), FOREIGN)
OTHERS = [b"", b"[]", b"{}", b"\xff\x00" * 40, bytes(4096), FOREIGN.getvalue().to_pybytes(), None]


def test_nothing_else_in_a_files_place_is_a_wrong_number_or_a_trace(undisturbed, tmp_path, caplog):
    for path in every_file(undisturbed[0]):
        content = path.read_bytes()
        for other in (*OTHERS, content[: len(content) // 2], content[:-1], content + b"\n{}"):
            with replaced(path, other):
                read_all(undisturbed, path, tmp_path / "out", caplog)


def flipped(content, at=0.4):
    bit = int(8 * len(content) * at)
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


DAMAGES = {
    "a flipped bit of curves": ("results.parquet", flipped),
    "a flipped bit of a footer": ("results.parquet", lambda content: flipped(content, 0.9)),
    "a flipped bit of a part": ("parts", flipped),
    "an empty part": ("parts", lambda content: b""),
    "a part of another origin": ("parts", lambda content: OTHERS[-2]),
    "a directory for a part": ("parts", lambda content: None),
    "an empty description": ("sweep.json", lambda content: b""),
    "another description": ("sweep.json", lambda content: b"{}"),
    "a directory for the description": ("sweep.json", lambda content: None),
    "a flipped bit of the description": ("sweep.json", flipped),
}


@pytest.mark.sampled
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_command_mends_a_damaged_sweep(damage, undisturbed, tmp_path):
    name, change = DAMAGES[damage]
    here, (_, frame, final, _) = tmp_path / "s", undisturbed
    shutil.copytree(undisturbed[0], here)
    told = SweepStore(here).description()
    path = next(here.glob(name if "." in name else f"{name}/*"))
    content = change(path.read_bytes())
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    report = run_sweep(plan_of(*GRID), here)
    assert report.damaged == [path.name]
    assert report.found + report.finished + report.diverged == 6
    assert (report.found == 6) == (name == "sweep.json")
    assert os.path.lexists(here / "damaged" / path.name)
    assert_frame_equal(load_sweep(here, constants=True).sort("run"), frame.sort("run"))
    assert_frame_equal(final_values(here), final)
    assert {**SweepStore(here).description(), "provenance": 0} == {**told, "provenance": 0}
    assert run_sweep(plan_of(*GRID), here).found == 6


@pytest.mark.parametrize("name", ["history.jsonl", "summary.json"])
def test_the_same_command_mends_the_damaged_directory_of_a_run(name, undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "s")
    path = tmp_path / "s" / "1" / name
    path.write_bytes(flipped(path.read_bytes()))
    report = run_sweep(plan_of(*GRID), tmp_path / "s")
    assert (report.found, report.finished, report.incomplete) == (5, 1, 1)
    assert by_run(tmp_path / "s") == by_run(undisturbed[0])


def by_run(place):
    return {load_summary(path)["run"]: load_run(path).records for path in place.glob("[0-9]*") if is_whole(path)}


def test_a_second_damaged_file_of_a_name_does_not_replace_the_first(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "s")
    for word in (b"first", b"second"):
        (tmp_path / "s" / "results.parquet").write_bytes(word)
        SweepStore(tmp_path / "s").finished()
    held = {path.name: path.read_bytes() for path in (tmp_path / "s" / "damaged").iterdir()}
    assert held == {"results.parquet": b"first", "results-2.parquet": b"second"}


def test_what_a_lost_description_held_is_still_held_to(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "s")
    for content in (b"", None):
        (tmp_path / "s" / "sweep.json").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "s" / "sweep.json").write_bytes(content)
        with pytest.raises(ConfigError, match=r"(?s)fixed values.*max_steps: 20 -> 30"):
            run_sweep(plan_of(*GRID, "max_steps=30"), tmp_path / "s")


def test_damage_before_compaction_costs_the_damaged_runs_alone(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "s")
    store, plan = SweepStore(tmp_path / "s"), plan_of(*GRID)
    part = store.files()[1]
    part.write_bytes(flipped(part.read_bytes()))
    store.compact(plan.identities)
    assert store.damaged == [part.name]
    assert_frame_equal(load_sweep(tmp_path / "s", constants=True), undisturbed[1].filter(pl.col("model.gamma") == 1.0))
    assert run_sweep(plan, tmp_path / "s").found == 3


def test_a_sweep_of_an_earlier_version_is_read_and_mended(undisturbed, tmp_path):
    """One without digests and page checksums; what cannot even be read there is computed again."""
    _, frame, _, _ = undisturbed
    here = tmp_path / "s"
    shutil.copytree(undisturbed[0], here)
    for path in SweepStore(here).files():
        table = pq.read_table(path)
        pq.write_table(table, path, compression="zstd")
        assert not sealed.check(path)
    told = json.loads((here / "sweep.json").read_text(encoding="utf-8"))
    (here / "sweep.json").write_text(json.dumps({key: told[key] for key in ("kind", "fixed")}), encoding="utf-8")
    for path in here.glob("*/summary.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({k: v for k, v in told.items() if k not in ("checksums", "digest")}), "utf-8")
        assert load_run(path.parent).records == undisturbed[3][path.parent.name].records
    assert_frame_equal(load_sweep(here, constants=True), frame)
    path = here / "results.parquet"
    chunk = pq.read_metadata(path).row_group(0).column(frame.columns.index("train_loss"))
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size // 2] = bytes(
        chunk.total_compressed_size // 2
    )
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"results\.parquet is damaged"):
        load_sweep(here)
    assert run_sweep(plan_of(*GRID), here).damaged == ["results.parquet"]
    assert_frame_equal(load_sweep(here, constants=True).sort("run"), frame.sort("run"))


def test_notes_of_failures_that_are_damaged_are_passed_over(tmp_path):
    store = SweepStore(tmp_path)
    for run in ("a", "b", "c"):
        store.fail(run, ["x=1"], "wrong")
    lines = (tmp_path / "failed.jsonl").read_bytes().split(b"\n")
    (tmp_path / "failed.jsonl").write_bytes(b"\n".join([lines[0], b"\xff{", b"[]", b"{}", lines[2], b'{"run": "d"']))
    assert set(store.failures()) == {"a", "c"}
    store.forget_failures()
    (tmp_path / "failed.jsonl").mkdir()
    store.forget_failures()
    assert store.failures() == {}


# --- while others write, and where nobody may


def test_parts_that_a_driver_compacts_meanwhile_are_found_again(undisturbed, tmp_path, monkeypatch):
    here = tmp_path / "s"
    shutil.copytree(undisturbed[0], here)
    plan, read = plan_of(*GRID), frames.read

    def late(*arguments):
        monkeypatch.undo()
        SweepStore(here).compact(plan.identities)
        return read(*arguments)

    monkeypatch.setattr(frames, "read", late)
    assert_frame_equal(load_sweep(here, constants=True).sort("run"), undisturbed[1].sort("run"))
    assert len(SweepStore(here).files()) == 1


def test_reading_writes_nothing(undisturbed, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    place, frame, _, runs = undisturbed
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    for name in ("mkdir", "rename", "replace", "unlink", "fsync"):
        monkeypatch.setattr(os, name, refused)
    assert_frame_equal(load_sweep(place, constants=True), frame)
    print_table(place)
    assert all(load_run(place / name).records == whole.records for name, whole in runs.items())
    monkeypatch.undo()
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.parametrize("name", ["listdir", "stat"])
def test_what_may_not_be_read_is_one_line(name, undisturbed, monkeypatch, capsys):
    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    place = undisturbed[0]
    monkeypatch.setattr(sweep.os, name, refused)
    with pytest.raises(StorageError, match=f"cannot read {place}.*: Permission denied") as raised:
        load_sweep(place)
    assert not isinstance(raised.value, DamagedError)
    with pytest.raises(SystemExit):
        main(["show", str(place)])
    assert capsys.readouterr().err.count("\n") == 1


# --- paths and words


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["study[1]", "stud?", "study*", "lr=0.1", "a {b} %20 #c", "it's", "[/red]"])
def test_a_directorys_name_is_no_pattern(name, undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed[0], tmp_path / "study1")
    one = plan_of("training.lr=0.003")
    run_sweep(one, tmp_path / name)
    for frame in (load_sweep(tmp_path / name), scan_sweep(tmp_path / name).collect()):
        assert frame["run"].to_list() == [one.identity(0)]
    assert "lr" not in scan_sweep(tmp_path / name).collect_schema().names()
    main(["show", str(tmp_path / name)])
    assert str(tmp_path / name) in capsys.readouterr().out


def test_words_are_shown_as_they_are(tmp_path, capsys):
    table = pl.DataFrame({"run": ["1", "2"], "data.path": ["[/x] :smile: [red]a", "\x1b[31mb"]}).to_arrow()
    table = table.append_column("diverged_at", pa.nulls(2, pa.int64())).append_column("loss", pa.array([[1.0], [2.0]]))
    about = {"config": ["data.path"], "events": ["diverged_at"], "curves": ["loss"]}
    (tmp_path / "parts").mkdir()
    SweepStore(tmp_path).write(table.replace_schema_metadata({"dln": json.dumps(about)}))
    main(["show", str(tmp_path)])
    out = capsys.readouterr().out
    assert "[/x] :smile: [red]a" in out
    assert r"\x1b[31mb" in out
    assert "\x1b" not in out
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path), "\x1b[31m"])
    assert r"\x1b[31m" in capsys.readouterr().err
    np.testing.assert_array_equal(final_values(tmp_path)["loss"].sort(), [1, 2])


def test_a_damaged_file_is_one_line_and_tells_what_to_do(undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed[0], tmp_path / "s")
    path = tmp_path / "s" / "results.parquet"
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(SystemExit, match="1"):
        main(["merge", str(tmp_path / "s"), "-o", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{path} is damaged" in told
    assert "give the command that made it again" in told
    assert not (tmp_path / "out").exists()
