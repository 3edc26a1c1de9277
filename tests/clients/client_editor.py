"""An editor completes a config by what `fender schema` prints: client_editor.py LANGUAGE_SERVER FOLDER

The folder holds schema.json. Speaks the language server protocol as editors do."""

import json
import pathlib
import subprocess
import sys
import threading
import time

server, folder = sys.argv[1], pathlib.Path(sys.argv[2])
text = """#:schema ./schema.json
[upstream.openai]
url = "https://api.openai.com"

[upstream.openai.breaker]

[upstream.openai.dead_letter]
mode = ""
"""
file = folder / "fender.toml"
file.write_text(text)
process = subprocess.Popen(
    [server, "lsp", "--offline"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
limit = threading.Timer(60, process.kill)
limit.daemon = True  # It outlives nothing.
limit.start()
asked = 0


def write(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    process.stdin.flush()


def read():
    length = 0
    while (line := process.stdout.readline()) != b"\r\n":
        assert line, "the server has ended"
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    return json.loads(process.stdout.read(length))


def ask(method, params):
    global asked
    asked += 1
    write({"id": asked, "method": method, "params": params})
    while True:
        message = read()
        if message.get("id") == asked and "method" not in message:
            return message["result"]
        if "id" in message:  # It asks for its settings: there are none.
            write({"id": message["id"], "result": [None for _ in (message.get("params") or {}).get("items", [])]})


def complete(below):
    lines = text.splitlines()
    line = lines.index(below) + 1
    position = {"line": line, "character": max(len(lines[line]) - 1, 0)}  # Between the quotes, if there are any.
    found = answer("textDocument/completion", {"textDocument": {"uri": file.as_uri()}, "position": position})
    return [item["label"] for item in (found["items"] if isinstance(found, dict) else found)]


def answer(method, params):
    """It knows nothing of a file until it has read its schema, on the side: an editor asks again with the next key."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if found := ask(method, params):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{method}: nothing within 30 s")


ask("initialize", {"processId": None, "rootUri": folder.as_uri(), "capabilities": {}})
write({"method": "initialized", "params": {}})
opened = {"uri": file.as_uri(), "languageId": "toml", "version": 1, "text": text}
write({"method": "textDocument/didOpen", "params": {"textDocument": opened}})

keys = complete('url = "https://api.openai.com"')
assert {"route", "retry", "dead_letter"} <= set(keys) and "url" not in keys, keys
keys = complete("[upstream.openai.breaker]")
assert {"failure_rate", "open_for", "half_open_probes"} <= set(keys), keys
words = complete("[upstream.openai.dead_letter]")
assert {'"off"', '"on_failure"', '"outbox"'} == set(words), words
hover = answer("textDocument/hover", {
    "textDocument": {"uri": file.as_uri()},
    "position": {"line": text.splitlines().index('mode = ""'), "character": 1}})
assert "Whether, and when, writes are stored" in json.dumps(hover), hover
process.kill()
print("fine")
