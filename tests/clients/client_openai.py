"""The OpenAI SDK through Fender: client_openai.py BASE_URL"""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="from-the-application", max_retries=0, timeout=20)
question = [{"role": "user", "content": "hello?"}]

answer = client.chat.completions.create(model="mock", messages=question)
assert answer.choices[0].message.content == "Hello there", answer

words = []
for chunk in client.chat.completions.create(model="mock", messages=question, stream=True):
    words.append(chunk.choices[0].delta.content or "")
assert words == ["Hello", " there", ""], words

raw = client.chat.completions.with_raw_response.create(model="mock", messages=question)
assert raw.headers["fender-request-id"], raw.headers

try:
    client.chat.completions.create(model="missing", messages=question)
except openai.NotFoundError as error:
    assert error.status_code == 404 and error.code == "model_not_found", error
else:
    raise AssertionError("an error is raised as its own class")
print("fine")
