"""Whatever a provider does on a real socket ends in right vectors or in a typed error that says enough."""

import asyncio
import pickle
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sparse_embed import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    InvalidResponseError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SparseEncoder,
    UnsupportedModelError,
)
from sparse_embed.testing import no_wait
from tests.faultserver import (
    CLOSED,
    CUT_JSON,
    GOOD,
    HTML_502,
    RESET,
    RESET_IN_BODY,
    SHORT_BODY,
    Action,
    first,
    sparse_of,
    stall,
    status,
)
from tests.ways import KEY, asynchronous, both_ways, deaf_port, each_wire, meeting, right, sync

TEXTS = ["first text", "second text", "third text", "fourth text", "fifth text", "sixth text"]
PER_MINUTE = "You've reached the max embedding tokens per minute (250000)"
PER_MONTH = "You've reached the max embedding tokens for the current month (5000000)"


@pytest.fixture(autouse=True)
def _waits_take_no_time():
    with no_wait():
        yield


PASSING = {
    **{str(code): status(code) for code in (408, 429, 500, 502, 503, 504)},
    "429 a minute": status(429, PER_MINUTE),
    "429 seconds": status(429, headers={"retry-after": "2.5"}),
    "429 milliseconds": status(429, headers={"retry-after-ms": "2500"}),
    "429 date": status(429, headers={"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=9), True)}),
    "429 odd": status(429, headers={"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}),
    "503 seconds": status(503, headers={"retry-after": "2"}),
    "502 html": HTML_502,
    "reset": RESET,
    "reset in the body": RESET_IN_BODY,
    "closed": CLOSED,
    "short body": SHORT_BODY,
    "cut json": CUT_JSON,
    "not json": Action(body="<html>ok</html>"),
    "empty": Action(body=""),
}


@both_ways
@each_wire
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_is_sent_again_and_nothing_is_misplaced(use, provider, kind, fault):
    with meeting(first(fault), provider, kind) as (server, encoder):
        assert use(encoder, "embed_documents", TEXTS) == right(encoder, TEXTS)
        assert server.texts == [TEXTS, TEXTS]
        assert encoder.usage.retries == 1
        assert encoder.usage.texts == encoder.usage.total_tokens == len(TEXTS)


@both_ways
@pytest.mark.parametrize("early", ["nothing", "half"])
def test_a_stall_is_given_up_after_the_timeout_and_sent_again(use, early):
    with meeting(first(stall(early)), timeout=1.0) as (server, encoder):
        assert use(encoder, "embed_query", "stalled") == sparse_of("stalled")
        assert server.texts == [["stalled"]] * 2


ONCE = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PermissionDeniedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: BadRequestError,
    412: BadRequestError,
    413: PayloadTooLargeError,
    418: APIStatusError,
    422: BadRequestError,
    501: UnsupportedModelError,
    505: ServerError,
}


@both_ways
@each_wire
@pytest.mark.parametrize("code", ONCE)
def test_a_final_status_is_one_request_and_one_typed_error(use, provider, kind, code):
    fault = status(code, f"{KEY} may not do this", {"x-request-id": "req-7"})
    with meeting(first(GOOD, fault), provider, kind, batch_size=1, max_concurrency=1) as (server, encoder):
        with pytest.raises(ONCE[code]) as caught:
            use(encoder, "embed_documents", TEXTS)
        error = caught.value
        assert type(error) is ONCE[code]
        assert (error.provider, error.status, error.code, error.request_id) == (provider, code, f"CODE_{code}", "req-7")
        assert (error.attempts, error.retry_after, error.texts) == (1, None, range(1, 2))
        assert error.elapsed > 0
        assert error.partial == {0: right(encoder, TEXTS)[0]}
        assert server.texts == [TEXTS[:1], TEXTS[1:2]]
        assert KEY not in f"{error} {error!r} {vars(error)}"
        assert "may not do this" in str(error)


@both_ways
def test_errors_survive_a_pickle_with_all_they_know(use):
    fault = status(404, headers={"x-pinecone-request-id": "req-8", "retry-after": "7"})
    with meeting(first(GOOD, fault), batch_size=2, max_concurrency=1) as (_, encoder):
        with pytest.raises(NotFoundError) as caught:
            use(encoder, "embed_documents", TEXTS)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is NotFoundError
        assert str(copy) == str(caught.value)
        assert vars(copy) == vars(caught.value)
        assert copy.partial == dict(enumerate(right(encoder, TEXTS[:2])))


@both_ways
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(use, code):
    with meeting(first()) as (elsewhere, _):
        moved = Action(code, "<h1>Moved</h1>nginx", {"location": f"{elsewhere.url}/embed"})
        with meeting(lambda _: moved) as (server, encoder):
            with pytest.raises(APIStatusError, match=r"to 127.0.0.1\) are not followed.* Moved nginx") as caught:
                use(encoder, "embed_query", "secret question")
            assert (caught.value.status, len(server.requests)) == (code, 1)
        assert elsewhere.requests == []


@both_ways
@each_wire
def test_an_error_that_comes_as_success_is_told(use, provider, kind):
    with meeting(lambda _: Action(200, {"error": "quota exceeded for project x"}), provider, kind) as (_, encoder):
        with pytest.raises(InvalidResponseError) as caught:
            use(encoder, "embed_query", "question")
        assert "quota exceeded for project x" in caught.value.message


@both_ways
def test_validation_details_keep_place_and_reason_and_lose_the_echoed_text(use):
    echo = [{"loc": ["body", "texts", 0], "msg": "too strange", "type": "value_error", "input": TEXTS[0]}]
    with meeting(lambda _: Action(422, {"detail": echo}), "chroma") as (_, encoder):
        with pytest.raises(BadRequestError, match=r"body\.texts\.0: too strange") as caught:
            use(encoder, "embed_documents", TEXTS)
        assert TEXTS[0] not in f"{caught.value} {vars(caught.value)}"


@both_ways
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (status(503), ServerError),
        (HTML_502, ServerError),
        (status(429, PER_MINUTE), RateLimitError),
        (RESET, APIConnectionError),
        (RESET_IN_BODY, APIConnectionError),
        (SHORT_BODY, APIConnectionError),
        (CUT_JSON, InvalidResponseError),
        (stall(), APITimeoutError),
        (stall("half"), APITimeoutError),
    ],
)
def test_a_fault_that_stays_is_raised_after_the_last_retry(use, fault, expected):
    timeout = 10.0 if fault.gate is None else 0.1
    with meeting(lambda _: fault, max_retries=1, timeout=timeout) as (server, encoder):
        with pytest.raises(expected) as caught:
            use(encoder, "embed_query", TEXTS[0])
        assert type(caught.value) is expected
        assert (caught.value.attempts, caught.value.texts, caught.value.partial) == (2, range(1), {})
        server.until(lambda: len(server.requests) == 2)  # it may read a request after its client has left
        assert server.texts == [TEXTS[:1]] * 2
        assert "<" not in caught.value.message
        assert caught.value.__context__ is None  # an httpx error would carry the request, and the key in its headers


@both_ways
def test_a_refused_connection_is_an_error_of_ours(use):
    with (
        deaf_port() as port,
        SparseEncoder("chroma", api_key=KEY, base_url=f"http://127.0.0.1:{port}", max_retries=1) as encoder,
    ):
        with pytest.raises(APIConnectionError) as caught:
            use(encoder, "embed_query", "nobody listens")
        assert (caught.value.attempts, caught.value.status) == (2, None)


async def handling(encoder, method, given):
    """The call of a coroutine that is handling an exception, in a loop that is run by code that is handling another."""
    try:
        raise ssl.SSLError("of the caller")
    except ssl.SSLError:
        return await getattr(encoder, f"a{method}")(given)


@pytest.mark.parametrize(
    "use", [sync, asynchronous, lambda *call: asyncio.run(handling(*call))], ids=["sync", "async", "async, handling"]
)
@pytest.mark.parametrize(
    ("fault", "expected"), [(stall(), APITimeoutError), (RESET, APIConnectionError)], ids=["stall", "reset"]
)
def test_an_exception_that_the_caller_is_handling_is_no_cause_of_a_fault(use, fault, expected):
    with meeting(lambda _: fault, max_retries=0, timeout=0.1) as (_, encoder):
        try:
            raise ConnectionRefusedError("of the caller")
        except ConnectionRefusedError:
            with pytest.raises(expected, match=r"no complete answer|did not answer") as caught:
                use(encoder, "embed_query", TEXTS[0])
        assert type(caught.value) is expected


@both_ways
def test_the_monthly_quota_fails_at_once(use):
    with meeting(lambda _: status(429, PER_MONTH)) as (server, encoder):
        with pytest.raises(RateLimitError, match="current month"):
            use(encoder, "embed_documents", TEXTS)
        assert len(server.requests) == 1


def in_five_minutes():
    return {"retry-after": format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)}


@both_ways
@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (lambda: {"retry-after": "121.5"}, 121.5),
        (lambda: {"retry-after-ms": "121500", "retry-after": "1"}, 121.5),
        (in_five_minutes, 300),
    ],
)
def test_a_pause_of_more_than_two_minutes_fails_at_once_and_says_how_long(use, code, headers, seconds):
    with meeting(lambda _: status(code, headers=headers())) as (server, encoder):
        with pytest.raises(APIStatusError) as caught:
            use(encoder, "embed_documents", TEXTS)
        assert caught.value.retry_after == pytest.approx(seconds, abs=90)
        assert len(server.requests) == 1


@both_ways
@each_wire
def test_413_halves_down_to_one_text(use, provider, kind):
    def only_one(seen):
        return status(413) if len(seen.texts) > 1 else GOOD

    with meeting(only_one, provider, kind) as (server, encoder):
        assert use(encoder, "embed_documents", TEXTS) == right(encoder, TEXTS)
        assert sorted(map(len, server.texts)) == [1] * 6 + [2] * 2 + [3] * 2 + [6]
        assert encoder.usage.retries == 0


@both_ways
def test_a_single_text_that_is_too_large_keeps_what_the_others_gave(use):
    def not_the_fourth(seen):
        return status(413) if TEXTS[3] in seen.texts else GOOD

    with meeting(not_the_fourth) as (_, encoder):
        with pytest.raises(PayloadTooLargeError) as caught:
            use(encoder, "embed_documents", TEXTS)
        assert caught.value.texts == range(3, 4)
        assert caught.value.partial == dict(enumerate(right(encoder, TEXTS[:3])))
