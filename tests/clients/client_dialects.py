"""Fender's own answers before the SDKs: client_dialects.py FILE, which holds what each dialect says."""

import asyncio
import http.server
import json
import sys
import threading

import anthropic
import openai
import slack_sdk.errors
import telegram
from google import genai
from google.genai import types
from python_http_client import exceptions as sendgrid_errors
from sendgrid import SendGridAPIClient
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client as Twilio

with open(sys.argv[1], encoding="utf-8") as file:
    SAID = json.load(file)
answer, asked = {}, 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global asked
        asked += 1
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = answer["body"].encode()
        self.send_response(answer["status"])
        for name, value in answer["headers"]:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"


def raises(kind, call, dialect, case, times=1):
    """The error that the call raises on what the dialect says, after so many requests."""
    global answer, asked
    answer, asked = SAID[dialect][case], 0
    try:
        call()
    except Exception as error:
        assert type(error) is kind, f"{dialect} {case}: {type(error)} {error}"
        assert asked == times, f"{dialect} {case}: asked {asked} times"
        return error
    raise AssertionError(f"{dialect} {case}: raised nothing")


def gives(call, dialect, case):
    global answer
    answer = SAID[dialect][case]
    return call()


question = [{"role": "user", "content": "hello?"}]
client = openai.OpenAI(base_url=URL + "/v1", api_key="x", max_retries=0)
stubborn = openai.OpenAI(base_url=URL + "/v1", api_key="x", max_retries=2)


def chat(client=client, **more):
    return client.chat.completions.create(model="m", messages=question, **more)


for dialect in ["openai", "azure-openai", "deepseek"]:
    for case, kind in {
        "breaker_open": openai.InternalServerError,
        "timeout": openai.InternalServerError,
        "throttled": openai.RateLimitError,
        "bad_request": openai.BadRequestError,
    }.items():
        error = raises(kind, chat, dialect, case)
        assert error.code == case and 'what "happened"' in error.message, error
    raises(openai.InternalServerError, lambda: chat(stubborn), dialect, "given_up", times=1)
    raises(openai.InternalServerError, lambda: chat(stubborn), dialect, "timeout", times=3)
    raises(openai.APIError, lambda: list(chat(stream=True)), dialect, "event")
    raises(openai.APIError, lambda: list(client.responses.create(model="m", input="x", stream=True)), dialect, "event")

client = anthropic.Anthropic(base_url=URL, api_key="x", max_retries=0)
stubborn = anthropic.Anthropic(base_url=URL, api_key="x", max_retries=2)


def message(client=client, **more):
    return client.messages.create(model="m", max_tokens=1, messages=question, **more)


for case, status in {"breaker_open": 529, "overload": 529, "timeout": 504, "connect": 502}.items():
    answer = SAID["anthropic"][case]
    try:
        message()
    except anthropic.InternalServerError as error:
        assert error.status_code == status, error
    else:
        raise AssertionError(case)
raises(anthropic.RateLimitError, message, "anthropic", "throttled")
raises(anthropic.BadRequestError, message, "anthropic", "bad_request")
answer, asked = SAID["anthropic"]["given_up"], 0
try:
    message(stubborn)
except anthropic.APIStatusError:
    assert asked == 1, asked
raises(anthropic.APIStatusError, lambda: list(message(stream=True)), "anthropic", "event")

client = genai.Client(api_key="x", http_options=types.HttpOptions(base_url=URL))
ask = lambda: client.models.generate_content(model="m", contents="x")
assert raises(genai.errors.ServerError, ask, "gemini", "breaker_open").status == "UNAVAILABLE"
assert raises(genai.errors.ClientError, ask, "gemini", "throttled").status == "RESOURCE_EXHAUSTED"
stream = lambda: list(client.models.generate_content_stream(model="m", contents="x"))
raises(genai.errors.ServerError, stream, "gemini", "event")

client = slack_sdk.WebClient(token="x", base_url=URL + "/")
post = lambda: client.chat_postMessage(channel="C", text="x")
for case, status, word in [
    ("breaker_open", 429, "ratelimited"),
    ("timeout", 200, "request_timeout"),
    ("bad_request", 200, "invalid_arguments"),
]:
    error = raises(slack_sdk.errors.SlackApiError, post, "slack", case)
    assert error.response.status_code == status and error.response["error"] == word, error
assert gives(post, "slack", "/chat.postMessage")["ok"] is True


def of_bot(call):
    """A call of a bot that needs not know itself."""

    async def once():
        request = telegram.request.HTTPXRequest()
        bot = telegram.Bot("123:abc", base_url=URL + "/bot", request=request, get_updates_request=request)
        await request.initialize()
        try:
            return await call(bot)
        finally:
            await request.shutdown()

    return lambda: asyncio.run(once())


send = of_bot(lambda bot: bot.send_message(5, "x"))
assert raises(telegram.error.RetryAfter, send, "telegram", "breaker_open")
assert raises(telegram.error.RetryAfter, send, "telegram", "throttled")
raises(telegram.error.NetworkError, send, "telegram", "timeout")
raises(telegram.error.BadRequest, send, "telegram", "bad_request")
sent = gives(send, "telegram", "/bot1:a/sendMessage")
assert (sent.message_id, sent.date.year) == (0, 2024), sent
assert gives(of_bot(lambda bot: bot.copy_message(5, 6, 7)), "telegram", "/bot1:a/copyMessage").message_id == 0


class Here(TwilioHttpClient):
    def request(self, method, url, *rest, **more):
        return super().request(method, url.replace("https://api.twilio.com", URL), *rest, **more)


client = Twilio("AC" + "0" * 32, "x", http_client=Here())
sms = lambda: client.messages.create(to="+1", from_="+2", body="x")
for case, status, code in [("breaker_open", 503, 20503), ("throttled", 429, 20429), ("timeout", 504, 20500)]:
    error = raises(TwilioRestException, sms, "twilio", case)
    assert (error.status, error.code) == (status, code), error
assert gives(sms, "twilio", "/Messages.json").status == "queued"

mail = lambda: SendGridAPIClient("x", host=URL).send({"x": 1})
raises(sendgrid_errors.ServiceUnavailableError, mail, "sendgrid", "breaker_open")
raises(sendgrid_errors.TooManyRequestsError, mail, "sendgrid", "throttled")
assert gives(mail, "sendgrid", "/mail/send").status_code == 202
print("fine")
