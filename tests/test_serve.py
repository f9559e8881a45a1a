"""A bundle over HTTP: the real server as a process of its own, and what it says to requests of all kinds."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from blends import frame, small_bundle  # type: ignore[import-not-found]

from tunekit.bundle import Bundle
from tunekit.errors import DataError, StudyError
from tunekit.serve.app import LARGEST_BODY
from tunekit.serve.batching import MOST_TOGETHER, Batcher
from tunekit.serve.run import serve
from tunekit.serve.schema import MOST_ROWS

PATIENCE = 60.0
"""Seconds after which the server is taken not to come: no measure of speed."""


@contextmanager
def served(folder: Path, *more: str, env: dict[str, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of this bundle, and what it said."""
    import os

    command = [sys.executable, "-u", "-m", "tunekit", "serve", str(folder), "--port", "0", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    assert process.stdout is not None
    said: list[str] = []
    try:
        while not said or " is served at " not in said[-1]:
            line = process.stdout.readline()
            assert line, "the server ended"
            said.append(line.strip())
        address = said[-1].split(" is served at ")[1].split("/predict")[0]
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with urlopen(address + "/health", timeout=PATIENCE):
                    break
            except OSError:
                time.sleep(0.05)
        yield address, said
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def ask(address: str, body: Any, path: str = "/predict", **headers: str) -> tuple[int, Any]:
    """Status and answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(address + path, data, {"content-type": "application/json", **headers})
    try:
        with urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


def plain_rows(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Rows as JSON has them."""
    rows: list[dict[str, Any]] = json.loads(frame(count, seed=seed).to_json(orient="records", date_format="iso"))
    return [
        {name: value.removesuffix("Z") if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    ]


@pytest.fixture(scope="module")
def multiclass(tmp_path_factory: Any) -> Any:
    bundle, folder, _ = small_bundle("multiclass", tmp_path_factory.mktemp("multiclass"))
    with served(folder) as (address, said):
        yield bundle, address, said


def test_it_predicts_what_the_bundle_does(multiclass: Any) -> None:
    bundle, address, _ = multiclass
    rows = plain_rows(40)
    status, answer = ask(address, {"rows": rows})
    assert status == 200
    assert answer["predictions"] == bundle.predict(rows).tolist()
    assert answer["classes"] == bundle.classes
    np.testing.assert_array_equal(answer["probabilities"], bundle.predict_proba(rows))
    assert ask(address, {"rows": rows[3:4]})[1]["predictions"] == answer["predictions"][3:4]


def test_a_number_has_no_probabilities(tmp_path: Path) -> None:
    bundle, folder, _ = small_bundle("regression", tmp_path)
    with served(folder) as (address, _):
        rows = plain_rows(5)
        assert ask(address, {"rows": rows}) == (200, {"predictions": bundle.predict(rows).tolist()})


def test_it_listens_on_this_machine_only_and_says_what_it_serves(multiclass: Any) -> None:
    bundle, address, said = multiclass
    assert address.startswith("http://127.0.0.1:")
    assert len(said) == 1
    port = int(address.rsplit(":", 1)[1])
    with socket.socket() as other, pytest.raises(OSError):  # noqa: PT011
        other.bind(("127.0.0.1", port))
    status, health = ask(address, None, "/health")
    assert (status, health["status"], health["name"]) == (200, "ok", bundle.name)


def test_the_openapi_page_shows_the_columns_and_an_example(multiclass: Any) -> None:
    bundle, address, _ = multiclass
    with urlopen(address + "/docs", timeout=PATIENCE) as page:
        assert b"swagger" in page.read().lower()
    schemas = ask(address, None, "/openapi.json")[1]["components"]["schemas"]
    assert set(schemas["Row"]["properties"]) == {name for name, _ in bundle.columns}
    assert set(schemas["Row"]["required"]) == {name for name, _ in bundle.columns}
    example = schemas["Rows"]["example"]
    assert ask(address, example)[0] == 200


def spoiled(**changes: Any) -> dict[str, Any]:
    return {"rows": [plain_rows(2)[0], {**plain_rows(2)[1], **changes}]}


def without(name: str) -> dict[str, Any]:
    rows = plain_rows(2)
    del rows[1][name]
    return {"rows": rows}


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (spoiled(size="large"), 422, "row 1, column 'size': received 'large', expected a number or null"),
        (spoiled(size=True), 422, "row 1, column 'size': received True, expected a number or null"),
        (spoiled(garden="yes"), 422, "row 1, column 'garden': received 'yes', expected true, false or null"),
        (spoiled(street=["a"]), 422, "row 1, column 'street': received ['a'], expected"),
        (spoiled(built="soon"), 422, "column 'built', row 1: received 'soon', expected a date"),
        (json.dumps(spoiled(size=float("nan"))).encode(), 422, "row 1, column 'size': received nan, expected a finite"),
        (json.dumps(spoiled(size=float("inf"))).encode(), 422, "row 1, column 'size': received inf, expected a finite"),
        (json.dumps(spoiled(size=10**400)).encode(), 422, "row 1, column 'size': received 1000"),
        (json.dumps(spoiled(street=10**400)).encode(), 422, "row 1, column 'street': received 1000"),
        (without("rooms"), 422, "row 1, column 'rooms': is missing; expected every column"),
        ({"rows": []}, 422, "rows: List should have at least 1 item"),
        ({"row": [{}]}, 422, 'expected {"rows": [{"COLUMN": VALUE, ...}, ...]}'),
        ([1, 2], 422, 'expected {"rows": [{"COLUMN": VALUE, ...}, ...]}'),
        ({"rows": [1]}, 422, "expected"),
        (b"{'rows'", 400, "the body is no JSON"),
        (b"\xff\xfe", 400, "body"),
        ({"rows": [{}] * (MOST_ROWS + 1)}, 422, f"at most {MOST_ROWS} items"),
    ],
)
def test_a_request_that_does_not_fit_is_told_why(multiclass: Any, body: Any, status: int, told: str) -> None:
    _, address, _ = multiclass
    received, answer = ask(address, body)
    assert (received, told in str(answer["detail"])) == (status, True), answer
    assert ask(address, {"rows": plain_rows(1)})[0] == 200, "and it goes on"


def test_a_value_may_be_missing_and_other_columns_are_ignored(multiclass: Any) -> None:
    bundle, address, _ = multiclass
    nothing = {name: None for name, _ in bundle.columns}
    status, answer = ask(address, {"rows": [nothing, {**plain_rows(1)[0], "note": {"a": 1}}]})
    assert status == 200
    assert answer["predictions"] == bundle.predict([nothing, plain_rows(1)[0]]).tolist()


def test_a_body_that_is_too_large_is_refused_before_it_is_read(multiclass: Any) -> None:
    _, address, _ = multiclass
    status, answer = ask(address, b" " * (LARGEST_BODY + 1))
    assert status == 413
    assert "the body is larger than 4 MB; send fewer rows" in answer["detail"]
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as line:  # one that doesn't say how long it is
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        line.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        with suppress(OSError):  # it may hang up before all is sent
            for _ in range(6):
                line.sendall(chunk)
            line.sendall(b"0\r\n\r\n")
        received = line.recv(4096)
    assert b" 413 " in received


def test_a_token_keeps_others_out(tmp_path: Path) -> None:
    _, folder, _ = small_bundle("binary", tmp_path)
    with served(folder, env={"TUNEKIT_TOKEN": "s3cret"}) as (address, _):
        rows = {"rows": plain_rows(1)}
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cre"}):
            status, answer = ask(address, rows, **headers)
            assert status == 401
            assert "expected the header 'Authorization: Bearer TOKEN'" in answer["detail"]
        assert ask(address, rows, authorization="Bearer s3cret")[0] == 200
        assert ask(address, rows, authorization="bearer s3cret")[0] == 200
        page = ask(address, None, "/openapi.json")[1]
        assert page["paths"]["/predict"]["post"]["security"], "the page's form asks for the token"
        assert ask(address, None, "/health")[0] == 200


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="the token is empty"):
        serve(tmp_path, "127.0.0.1", 0, token=" ", threads=1, tell=print)


def test_an_open_address_without_a_token_is_warned_of(tmp_path: Path) -> None:
    _, folder, _ = small_bundle("binary", tmp_path)
    with served(folder, "--host", "0.0.0.0") as (address, said):
        assert said[0].startswith("warning: 0.0.0.0 can be reached from other machines, and there is no --token")
        assert address.startswith("http://0.0.0.0:")
    with served(folder, "--host", "0.0.0.0", "--token", "t") as (_, said):
        assert len(said) == 1


def test_programs_are_told_where_it_is_as_json(tmp_path: Path) -> None:
    _, folder, _ = small_bundle("binary", tmp_path)
    command = [
        sys.executable,
        "-u",
        "-m",
        "tunekit",
        "serve",
        str(folder),
        "--port",
        "0",
        "--host",
        "0.0.0.0",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        warned, told = (json.loads(process.stdout.readline()) for _ in range(2))
        assert "no --token" in warned["warning"]
        assert told["name"] == Bundle.load(folder).name
        assert told["predict"].removesuffix("predict") == told["health"].removesuffix("health")
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_a_taken_port_and_no_bundle_are_told(multiclass: Any, tmp_path: Path) -> None:
    _, address, _ = multiclass
    _, folder, _ = small_bundle("binary", tmp_path)
    for arguments, told in (
        ([str(folder), "--port", address.rsplit(":", 1)[1]], "can't listen on 127.0.0.1"),
        ([str(tmp_path)], "manifest.json"),
    ):
        command = [sys.executable, "-m", "tunekit", "serve", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr


def test_many_callers_at_once_get_their_own(multiclass: Any) -> None:
    bundle, address, _ = multiclass
    rows = plain_rows(120)
    expected = bundle.predict_proba(rows)
    found: dict[int, Any] = {}

    def call(number: int) -> None:
        body = without("rooms") if number % 10 == 9 else {"rows": rows[number : number + 1]}
        found[number] = ask(address, body)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for number in range(120):
        status, answer = found[number]
        if number % 10 == 9:
            assert status == 422
        else:
            np.testing.assert_allclose(answer["probabilities"][0], expected[number], atol=1e-6)


# Batching, by itself.


def test_requests_that_wait_are_predicted_together() -> None:
    calls: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def predict(rows: list[dict[str, Any]]) -> Any:
        calls.append(len(rows))
        begun.set()
        go.wait(PATIENCE)
        if any(row["x"] < 0 for row in rows):
            raise DataError("a negative x")
        return np.array([[row["x"]] for row in rows], dtype=float)

    async def main() -> list[Any]:
        batcher = Batcher(predict)
        first = asyncio.create_task(batcher.predict([{"x": 0}]))
        await asyncio.to_thread(begun.wait, PATIENCE)
        others = [asyncio.create_task(batcher.predict([{"x": number}] * 2)) for number in (1, 2, -1, 3)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, one, two, wrong, three = asyncio.run(main())
    assert calls == [1, 8, 2, 2, 2, 2], "together; and one by one, as one of them can't be predicted"
    assert first.tolist() == [[0]]
    assert one.tolist() == [[1], [1]]
    assert two.tolist() == [[2], [2]]
    assert three.tolist() == [[3], [3]]
    assert isinstance(wrong, DataError)


def test_not_too_many_are_predicted_together() -> None:
    calls: list[int] = []

    def predict(rows: list[dict[str, Any]]) -> Any:
        calls.append(len(rows))
        return np.zeros((len(rows), 1))

    async def main() -> None:
        batcher = Batcher(predict)
        sizes = [1, MOST_TOGETHER // 2, MOST_TOGETHER // 2, 1, 3 * MOST_TOGETHER]
        answers = await asyncio.gather(*(batcher.predict([{}] * size) for size in sizes))
        assert [len(answer) for answer in answers] == sizes

    asyncio.run(main())
    assert max(calls[:-1]) <= MOST_TOGETHER
    assert sum(calls) == 2 + 4 * MOST_TOGETHER


def test_an_error_of_the_server_reaches_everybody() -> None:
    def predict(rows: list[dict[str, Any]]) -> Any:
        raise RuntimeError("broken")

    async def main() -> list[Any]:
        batcher = Batcher(predict)
        return await asyncio.gather(*(batcher.predict([{}]) for _ in range(3)), return_exceptions=True)

    assert [str(one) for one in asyncio.run(main())] == ["broken"] * 3


def test_what_one_request_breaks_reaches_no_other() -> None:
    def predict(rows: list[dict[str, Any]]) -> Any:
        if any(row["x"] < 0 for row in rows):
            raise MemoryError("an array of 7 TiB")
        return np.array([[row["x"]] for row in rows], dtype=float)

    async def main() -> list[Any]:
        batcher = Batcher(predict)
        return await asyncio.gather(*(batcher.predict([{"x": x}]) for x in (0, 1, -1, 2)), return_exceptions=True)

    *_, one, wrong, two = asyncio.run(main())
    assert one.tolist() == [[1]]
    assert two.tolist() == [[2]]
    assert isinstance(wrong, MemoryError)


def test_the_server_needs_nothing_but_the_bundle(tmp_path: Path) -> None:
    _, folder, _ = small_bundle("binary", tmp_path)
    code = f"""
import sys
from tunekit.bundle import Bundle
from tunekit.serve.app import make_app
make_app(Bundle.load({str(folder)!r}))
print(*{{name.split(".")[0] for name in sys.modules}})
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "pandas", "sklearn", "xgboost", "mlflow", "optuna"} & set(loaded)
    assert Bundle.load(folder).raw(frame(3)).shape == (3, 1)
