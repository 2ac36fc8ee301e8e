"""One run's directory: written as the run goes, readable whatever happens, never shared."""

import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dln.errors import DamagedError, StorageError
from dln.results.run import HISTORY, SUMMARY, RunWriter, claim_directory, load_run, refuse_occupied

ROOT = Path(__file__).resolve().parents[2]
SUMMARY_OF_A_RUN = {"status": "finished", "steps": 1, "events": {"stopped_at": 1}}


def test_records_reach_the_file_as_they_are_written(tmp_path):
    with RunWriter(tmp_path / "run") as writer:
        for step in range(3):
            writer.append({"step": step, "train_loss": step / 2})
            lines = (tmp_path / "run" / HISTORY).read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["step"] for line in lines] == list(range(step + 1))
        assert writer.count == 3


def test_a_run_is_read_back(tmp_path):
    records = [{"step": 0, "train_loss": 0.1 + 0.2, "norms": [1.0, 2.0]}, {"step": 1, "train_loss": 1e-300}]
    with RunWriter(tmp_path) as writer:
        for record in records:
            writer.append(record)
        writer.finish(SUMMARY_OF_A_RUN)
    history = load_run(tmp_path)
    assert history.records == records
    assert history.events == {"stopped_at": 1}
    assert history.directory == str(tmp_path)


def test_a_run_without_a_summary_is_read_back(tmp_path):
    with RunWriter(tmp_path) as writer:
        writer.append({"step": 0, "train_loss": float("inf")})
    history = load_run(str(tmp_path))
    assert math.isnan(history.final["train_loss"])
    assert history.events == {}


def test_a_line_cut_short_is_left_out(tmp_path):
    (tmp_path / HISTORY).write_text('{"step": 0}\n{"step": 1}\n{"step": 2, "train_lo', encoding="utf-8")
    assert load_run(tmp_path)["step"].tolist() == [0, 1]


def test_the_summary_is_complete_or_absent(tmp_path):
    with RunWriter(tmp_path) as writer:
        assert not (tmp_path / SUMMARY).exists()
        writer.finish(SUMMARY_OF_A_RUN)
    told = json.loads((tmp_path / SUMMARY).read_text(encoding="utf-8"))
    assert {key: told[key] for key in SUMMARY_OF_A_RUN} == SUMMARY_OF_A_RUN
    assert sorted(p.name for p in tmp_path.iterdir()) == [HISTORY, SUMMARY]


def finished_run(directory, records=6):
    written = [{"step": step, "train_loss": step / 3, "norms": [1.0, float(step)]} for step in range(records)]
    with RunWriter(directory) as writer:
        for record in written:
            writer.append(record)
        writer.finish(SUMMARY_OF_A_RUN)
    return written


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-30], lambda text: text[:-30] + b"\x00\xff\xfe" * 9 + b"\n", lambda text: text + b"[]\n"],
)
def test_of_a_damaged_history_the_records_before_are_kept(damage, finished, tmp_path, caplog):
    written = finished_run(tmp_path)
    if not finished:
        (tmp_path / SUMMARY).unlink()
    content = damage((tmp_path / HISTORY).read_bytes())
    (tmp_path / HISTORY).write_bytes(content)
    kept = content[:-3].count(b"\n") if content.endswith(b"[]\n") else content[:-1].count(b"\n")
    assert load_run(tmp_path).records == written[:kept]
    assert ("is damaged" in caplog.text) == (finished or content.endswith(b"\n"))  # else it was killed as it wrote


@pytest.mark.parametrize("lines", [0, 1, 4])
def test_records_that_are_missing_are_missed(lines, tmp_path, caplog):
    written = finished_run(tmp_path)
    whole = (tmp_path / HISTORY).read_bytes().splitlines(keepends=True)
    (tmp_path / HISTORY).write_bytes(b"".join(whole[:lines]))
    if lines == 0:
        with pytest.raises(
            DamagedError, match=r"history\.jsonl is damaged: it ends after 0 of 6 records; run it again"
        ):
            load_run(tmp_path)
        return
    assert load_run(tmp_path).records == written[:lines]
    assert f"ends after {lines} of 6 records" in caplog.text


def test_a_flipped_bit_of_a_finished_run_gives_no_wrong_number(tmp_path, caplog):
    written = finished_run(tmp_path)
    whole = load_run(tmp_path)
    for name in (HISTORY, SUMMARY):
        content = (tmp_path / name).read_bytes()
        for bit in range(0, 8 * len(content), 13):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            (tmp_path / name).write_bytes(damaged)
            caplog.clear()
            try:
                history = load_run(tmp_path)
            except DamagedError as error:
                assert name in str(error)  # noqa: PT017
                continue
            assert history.records == written[: len(history)]
            assert (history.records, history.events) == (whole.records, whole.events) or name in caplog.text
        (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", None])
def test_without_a_readable_summary_the_records_are_kept(content, tmp_path, caplog):
    written = finished_run(tmp_path)
    (tmp_path / SUMMARY).unlink()
    (tmp_path / SUMMARY).mkdir() if content is None else (tmp_path / SUMMARY).write_bytes(content)
    assert load_run(tmp_path).records == written
    assert "summary.json is damaged" in caplog.text


def test_what_is_no_history_is_named(tmp_path):
    (tmp_path / HISTORY).mkdir()
    with pytest.raises(DamagedError, match=r"history\.jsonl is damaged: it is no file"):
        load_run(tmp_path)


def test_loading_from_where_there_is_no_run(tmp_path):
    with pytest.raises(StorageError, match=HISTORY):
        load_run(tmp_path)


def test_a_second_writer_is_refused_and_nothing_is_lost(tmp_path):
    with RunWriter(tmp_path) as writer:
        writer.append({"step": 0})
    with pytest.raises(StorageError, match=str(tmp_path)):
        RunWriter(tmp_path)
    assert load_run(tmp_path).records == [{"step": 0}]


@pytest.mark.parametrize("name", [HISTORY, "multirun.yaml"])
def test_occupied_directories_are_refused(name, tmp_path):
    refuse_occupied(tmp_path)
    refuse_occupied(tmp_path / "not there yet")
    (tmp_path / "notes.txt").touch()
    refuse_occupied(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(StorageError, match="holds a"):
        refuse_occupied(tmp_path)


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        RunWriter(tmp_path / "file" / "run")


class FullDisk:
    """A file that takes a number of lines and then is full."""

    def __init__(self, lines: int) -> None:
        self.left = lines

    def write(self, text: str) -> None:
        if self.left == 0:
            raise OSError(28, "No space left on device")
        self.left -= 1

    def close(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_says_how_many_records_are_safe(tmp_path):
    writer = RunWriter(tmp_path)
    writer._file.close()
    writer._file = FullDisk(2)
    for step in range(2):
        writer.append({"step": step})
    with pytest.raises(StorageError, match=r"No space left.* 2 records"):
        writer.append({"step": 2})
    writer.__exit__()  # closing a file on a full disk raises once more; the message above is the one to see


# --- fresh directories ------------------------------------------------------------------------------------------------


def test_the_wanted_name_is_given_first_and_then_numbered(tmp_path):
    wanted = tmp_path / "day" / "time"
    claimed = [claim_directory(wanted) for _ in range(3)]
    assert [p.name for p in claimed] == ["time", "time-2", "time-3"]
    assert all(p.is_dir() and p.parent == wanted.parent for p in claimed)


def test_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "time").write_text("notes", encoding="utf-8")
    assert claim_directory(tmp_path / "time") == tmp_path / "time-2"
    assert (tmp_path / "time").read_text(encoding="utf-8") == "notes"


def test_a_place_where_no_directory_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot .*file"):
        claim_directory(tmp_path / "file" / "day" / "time")


def test_threads_at_the_same_moment_get_directories_of_their_own(tmp_path):
    count, claimed = 16, []
    gate = threading.Barrier(count)

    def claim() -> None:
        gate.wait()
        claimed.append(claim_directory(tmp_path / "day" / "time"))

    threads = [threading.Thread(target=claim) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(claimed)) == count
    assert {p.name for p in claimed} == {"time", *(f"time-{i}" for i in range(2, count + 1))}


CLAIM = """
import sys, time
from pathlib import Path
from dln.results.run import claim_directory
place = Path(sys.argv[1])
print("ready", flush=True)
while not (place / "go").exists():
    time.sleep(0)
for _ in range(100):
    print(claim_directory(place / "time").name)
"""


def test_processes_at_the_same_moment_get_directories_of_their_own(tmp_path):
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    workers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    claimed = [name for worker in workers for name in worker.communicate()[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert len(claimed) == len(set(claimed)) == 200
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == set(claimed)
