"""Mock providers, and the official SDKs through Fender: peer_providers.py serve | call NAME FENDER_URL PROVIDER_URL

The last part of a model's or channel's name says what the provider does; it counts what it is asked."""

import collections
import http.server
import json
import sys
import threading
import time
import urllib.request

WORDS = ["one", " two", " three", " four", " five", " six"]
COUNTS = collections.Counter()


# The provider's side.


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.startswith("/count/"):
            return self.answer(200, COUNTS[self.path.removeprefix("/count/")])
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        try:
            asked = json.loads(body) if body.startswith("{") else dict(urllib.parse.parse_qsl(body))
        except ValueError:
            asked = {}
        api = self.path.strip("/").split("/")[0]
        getattr(self, api)(asked)

    def answer(self, status, body, **fields):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def events(self, texts, cut=False):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for text in texts:
            data = text.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        if cut:
            self.close_connection = True
            self.connection.shutdown(2)
        else:
            self.wfile.write(b"0\r\n\r\n")

    def fault(self, key):
        """The number of this call, and what it meets."""
        COUNTS[key] += 1
        return COUNTS[key], key.rsplit("-", 1)[-1] if "-" in key else key[-1]

    def openai(self, asked):
        number, fault = self.fault(asked["model"])
        error = lambda code: {"error": {"message": "mock", "type": code, "param": None, "code": code}}
        if fault == "busy" or (fault == "once" and number == 1):
            return self.answer(503, error("server_is_overloaded"))
        if fault == "slow" and number == 1:
            return self.answer(429, error("rate_limit_exceeded"), retry_after=1)
        if fault == "quota":
            return self.answer(429, error("insufficient_quota"))
        if fault == "filter":
            return self.answer(400, error("content_filter"))
        chunk = lambda delta, end=None: "data: %s\n\n" % json.dumps(
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
             "choices": [{"index": 0, "delta": delta, "finish_reason": end}]})
        if asked.get("stream"):
            texts = [chunk({"role": "assistant", "content": ""})] + [chunk({"content": word}) for word in WORDS]
            if fault == "cut":
                return self.events(texts[:4], cut=True)
            if fault == "silent":
                return self.events(texts[:4])
            return self.events(texts + [chunk({}, "stop"), "data: [DONE]\n\n"])
        self.answer(200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(WORDS)}}]})

    def anthropic(self, asked):
        number, fault = self.fault(asked["model"])
        error = lambda kind: {"type": "error", "error": {"type": kind, "message": "mock"}, "request_id": "r"}
        if fault == "busy" or (fault == "once" and number == 1):
            return self.answer(529, error("overloaded_error"))
        if fault == "slow" and number == 1:
            return self.answer(429, error("rate_limit_error"), retry_after=1)
        if fault == "spend":
            body = error("rate_limit_error")
            body["error"]["details"] = {"error_code": "enforced_spend_limit_reached"}
            return self.answer(429, body)
        event = lambda kind, **more: "event: %s\ndata: %s\n\n" % (kind, json.dumps({"type": kind, **more}))
        message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        if asked.get("stream"):
            texts = [event("message_start", message=message), event("ping")]
            if fault == "early" and number == 1:
                return self.events(texts + [event("error", error={"type": "overloaded_error", "message": "mock"})])
            texts.append(event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
            texts += [event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in WORDS]
            if fault == "cut":
                return self.events(texts[:5], cut=True)
            if fault == "silent":
                return self.events(texts[:5])
            texts += [event("content_block_stop", index=0), event("message_delta", usage={"output_tokens": 9},
                      delta={"stop_reason": "end_turn", "stop_sequence": None}), event("message_stop")]
            return self.events(texts)
        self.answer(200, {**message, "stop_reason": "end_turn", "content": [{"type": "text", "text": "".join(WORDS)}]})

    def gemini(self, asked):
        model = self.path.split("/models/")[1].split(":")[0]
        number, fault = self.fault(model)
        error = lambda status, word, *details: {"error": {"code": status, "message": "mock", "status": word, "details": list(details)}}
        if fault == "busy" or (fault == "once" and number == 1):
            return self.answer(503, error(503, "UNAVAILABLE"))
        if fault == "slow" and number == 1:
            info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.2s"}
            return self.answer(429, error(429, "RESOURCE_EXHAUSTED", info))
        if fault == "day":
            quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
                {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
            return self.answer(429, error(429, "RESOURCE_EXHAUSTED", quota))
        part = lambda text, **more: {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}]}
        if "alt=sse" in self.path:
            texts = ["data: %s\n\n" % json.dumps(part(word)) for word in WORDS]
            if fault == "cut":
                return self.events(texts[:3], cut=True)
            if fault == "silent":
                return self.events(texts[:3])
            return self.events(texts[:-1] + ["data: %s\n\n" % json.dumps(part(WORDS[-1], finishReason="STOP"))])
        self.answer(200, part("".join(WORDS), finishReason="STOP"))

    def slack(self, asked):
        number, fault = self.fault(asked["channel"])
        if fault == "limited" and number == 1:
            return self.answer(200, {"ok": False, "error": "ratelimited"}, retry_after=1)
        if fault == "nowhere":
            return self.answer(200, {"ok": False, "error": "channel_not_found"})
        if fault == "broken":
            return self.answer(200, {"ok": False, "error": "internal_error"})
        if fault == "down":
            return self.answer(429, {"ok": False, "error": "ratelimited"}, retry_after=120)
        self.answer(200, {"ok": True, "channel": asked["channel"], "ts": "1.2", "message": {"text": "x"}})

    def telegram(self, asked):
        chat = str(asked.get("chat_id"))
        number, fault = self.fault(chat)
        if fault == "7" and number == 1:
            return self.answer(429, {"ok": False, "error_code": 429, "description": "Too Many Requests",
                                     "parameters": {"retry_after": 1}})
        if fault == "8":
            return self.answer(429, {"ok": False, "error_code": 429, "description": "Too Many Requests",
                                     "parameters": {"retry_after": 90}})
        if fault == "9":
            return self.answer(403, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"})
        self.answer(200, {"ok": True, "result": {"message_id": 5, "date": int(time.time()),
                                                  "chat": {"id": int(chat), "type": "private"}, "text": asked.get("text")}})


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    print(server.server_address[1], flush=True)
    server.serve_forever()


# The client's side.


def counted(provider, key):
    with urllib.request.urlopen(f"{provider}/count/{key}") as answer:
        return int(answer.read())


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def openai(fender, provider):
    import openai

    client = openai.OpenAI(base_url=fender + "/openai/v1", api_key="sk-of-the-application", timeout=30)
    ask = lambda model: client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])
    stream = lambda model: "".join(
        chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "?"}], stream=True))

    assert ask("a-fine").choices[0].message.content == "".join(WORDS)
    assert stream("b-fine") == "".join(WORDS)
    assert ask("c-once").choices[0].message.content == "".join(WORDS)
    assert counted(provider, "c-once") == 2
    begun = time.time()
    assert stream("d-slow") == "".join(WORDS)
    assert time.time() - begun >= 1 and counted(provider, "d-slow") == 2

    error = raises(openai.InternalServerError, lambda: ask("e-busy"))
    assert error.status_code == 503 and error.code == "server_is_overloaded", error
    assert error.response.headers["x-should-retry"] == "false"
    assert counted(provider, "e-busy") == 3, "the SDK's two retries are not multiplied with Fender's"
    error = raises(openai.RateLimitError, lambda: ask("f-quota"))
    assert error.code == "insufficient_quota" and counted(provider, "f-quota") == 1, error
    error = raises(openai.RateLimitError, lambda: ask("f-quota"))
    assert error.response.headers["fender-reason"] == "throttled", error.response.headers
    error = raises(openai.BadRequestError, lambda: openai.OpenAI(
        base_url=fender + "/openai/v1", api_key="sk-of-another").chat.completions.create(
            model="g-filter", messages=[]))
    assert error.code == "content_filter" and counted(provider, "g-filter") == 1


def openai_streams(fender, provider):
    import openai

    client = openai.OpenAI(base_url=fender + "/openai/v1", api_key="sk-of-the-application", timeout=30)
    for fault in ["cut", "silent"]:
        seen = []
        def read():
            for chunk in client.chat.completions.create(model=f"h-{fault}", messages=[], stream=True):
                seen.append(chunk.choices[0].delta.content)
        error = raises(openai.APIError, read)
        assert seen == ["", "one", " two", " three"], seen
        assert "fender" in str(error), error
        assert counted(provider, f"h-{fault}") == 1

    dead = openai.OpenAI(base_url=fender + "/dead/v1", api_key="sk-x", timeout=30, max_retries=0)
    error = raises(openai.InternalServerError, lambda: dead.chat.completions.create(model="x", messages=[]))
    assert error.status_code == 502 and error.type == "server_error", error
    assert error.response.headers["x-should-retry"] == "false"
    error = raises(openai.InternalServerError, lambda: dead.chat.completions.create(model="x", messages=[]))
    assert error.status_code == 503 and error.response.headers["fender-reason"] == "breaker_open"
    assert 0 < int(error.response.headers["retry-after-ms"]) <= 60_000, error.response.headers


def anthropic(fender, provider):
    import anthropic

    client = anthropic.Anthropic(base_url=fender + "/anthropic", api_key="sk-of-the-application", timeout=30)
    ask = lambda model: client.messages.create(model=model, max_tokens=9, messages=[{"role": "user", "content": "?"}])

    def stream(model):
        with client.messages.stream(model=model, max_tokens=9, messages=[{"role": "user", "content": "?"}]) as events:
            return "".join(events.text_stream)

    assert ask("a-fine").content[0].text == "".join(WORDS)
    assert stream("b-fine") == "".join(WORDS)
    assert ask("c-once").content[0].text == "".join(WORDS)
    begun = time.time()
    assert ask("d-slow").content[0].text == "".join(WORDS)
    assert time.time() - begun >= 1 and counted(provider, "d-slow") == 2
    error = raises(anthropic.APIStatusError, lambda: ask("e-busy"))
    assert error.status_code == 529 and error.body["error"]["type"] == "overloaded_error", error
    assert counted(provider, "e-busy") == 3, counted(provider, "e-busy")
    assert stream("g-early") == "".join(WORDS) and counted(provider, "g-early") == 2
    for fault in ["cut", "silent"]:
        error = raises(anthropic.APIStatusError, lambda: stream(f"h-{fault}"))
        assert "fender" in str(error), error
    error = raises(anthropic.RateLimitError, lambda: ask("f-spend"))
    assert counted(provider, "f-spend") == 1, error


def gemini(fender, provider):
    from google import genai
    from google.genai import errors, types

    client = genai.Client(api_key="of-the-application", http_options=types.HttpOptions(base_url=fender + "/gemini"))
    ask = lambda model: client.models.generate_content(model=model, contents="?").text
    stream = lambda model: "".join(part.text for part in client.models.generate_content_stream(model=model, contents="?"))

    assert ask("a-fine") == "".join(WORDS)
    assert stream("b-fine") == "".join(WORDS)
    assert ask("c-once") == "".join(WORDS) and counted(provider, "c-once") == 2
    begun = time.time()
    assert ask("d-slow") == "".join(WORDS)
    assert time.time() - begun >= 1.2 and counted(provider, "d-slow") == 2
    error = raises(errors.ServerError, lambda: ask("e-busy"))
    assert error.code == 503 and error.status == "UNAVAILABLE", error
    assert counted(provider, "e-busy") == 3
    for fault in ["cut", "silent"]:
        error = raises(errors.APIError, lambda: stream(f"h-{fault}"))
        assert "fender" in str(error), error
    error = raises(errors.ClientError, lambda: ask("f-day"))
    assert error.code == 429 and counted(provider, "f-day") == 1, error


def slack(fender, provider):
    import slack_sdk
    from slack_sdk.errors import SlackApiError

    client = slack_sdk.WebClient(token="xoxb-of-the-application", base_url=fender + "/slack/")
    post = lambda channel: client.chat_postMessage(channel=channel, text="x")
    assert post("a-fine")["ts"] == "1.2"
    begun = time.time()
    assert post("b-limited")["ok"] and time.time() - begun >= 1 and counted(provider, "b-limited") == 2
    error = raises(SlackApiError, lambda: post("c-nowhere"))
    assert error.response["error"] == "channel_not_found" and counted(provider, "c-nowhere") == 1
    error = raises(SlackApiError, lambda: post("d-broken"))
    assert error.response["error"] == "internal_error", error
    assert error.response.headers["fender-letter"], "what may have happened is kept, and told as it was"
    assert counted(provider, "d-broken") == 1
    answer = post("e-down")
    assert answer["ok"] and answer.headers["fender-letter"], "stored: the SDK is content"
    assert counted(provider, "e-down") == 1


def telegram(fender, provider):
    import asyncio

    import telegram as tg

    async def run():
        bot = tg.Bot("123:secret-of-the-application", base_url=fender + "/telegram/bot")
        assert (await bot.send_message(1, "x")).message_id == 5
        begun = time.time()
        assert (await bot.send_message(17, "x")).message_id == 5
        assert time.time() - begun >= 1 and counted(provider, "17") == 2
        try:
            await bot.send_message(19, "x")
            raise AssertionError("no Forbidden")
        except tg.error.Forbidden:
            assert counted(provider, "19") == 1
        for _ in range(2):
            try:
                await bot.send_message(18, "x")
                raise AssertionError("no RetryAfter")
            except tg.error.RetryAfter as error:
                assert 60 <= error.retry_after <= 90, error.retry_after
        assert counted(provider, "18") == 1

    asyncio.run(run())


if sys.argv[1] == "serve":
    import urllib.parse

    threading.stack_size(256 * 1024)
    serve()
else:
    globals()[sys.argv[2]](sys.argv[3], sys.argv[4])
    print("fine")
