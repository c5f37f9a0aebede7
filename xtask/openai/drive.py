#!/usr/bin/env python3
"""Drives `mlxport serve` with OpenAI's own Python client: models, whole and streamed texts, images, limits, errors, cancelling, the end.

    python drive.py MLXPORT CHECKPOINT DATA WORK

MLXPORT: the binary. CHECKPOINT: a small recording's. DATA: the folder with tokenizer.json and pages/. WORK: a folder to work in, emptied first.
Exit code 0: everything held.
"""
import base64
import pathlib
import shutil
import sys
import threading
import time

import openai

import server

KEY = "a-key-for-this-run"


def client_of(served, key=KEY, **more):
    return openai.OpenAI(base_url=f"http://{served.host}:{served.port}/v1", api_key=key, max_retries=0, timeout=60, **more)


def page(data, name="small.png"):
    url = "data:image/png;base64," + base64.b64encode((data / "pages" / name).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def reading(*parts):
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "Free OCR. "}]}]


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: expected {wanted!r}, found {found!r}")


def refused(what, kind, call, code=None):
    """The call must end with just this exception of the client's."""
    try:
        call()
    except openai.OpenAIError as error:
        if type(error) is not kind or (code is not None and error.code != code):
            sys.exit(f"{what}: expected {kind.__name__} {code}, found {error!r}")
        return error
    sys.exit(f"{what}: expected {kind.__name__}, found no error")


def texts(client, data):
    """A whole text, the same streamed, and what was asked of both."""
    expect("models", [entry.id for entry in client.models.list()], ["small"])
    expect("the model", client.models.retrieve("small").id, "small")
    create = client.chat.completions.create
    asked = {"model": "small", "messages": reading(page(data)), "max_tokens": 24}
    whole = create(**asked)
    text = whole.choices[0].message.content
    expect("the text's kind", (whole.object, whole.choices[0].message.role, bool(text)), ("chat.completion", "assistant", True))
    expect("tokens", whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
    chunks = list(create(**asked, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    expect("the streamed text", "".join(pieces), text)
    expect("the streamed end", [c.choices[0].finish_reason for c in chunks if c.choices][-1], whole.choices[0].finish_reason)
    expect("the streamed tokens", chunks[-1].usage, whole.usage)
    short = create(**{**asked, "max_tokens": 3})
    expect("a short text", (short.choices[0].finish_reason, short.usage.completion_tokens), ("length", 3))
    half = text[: len(text) // 2]
    stop = next(text[at : at + 3] for at in range(len(half), len(text) - 3))
    cut = create(**asked, stop=[stop]).choices[0]
    expect("a stop string", (cut.message.content, cut.finish_reason), (text[: text.index(stop)], "stop"))
    drawn = [create(**asked, temperature=1.5, seed=7, top_p=0.9).choices[0].message.content for _ in range(2)]
    expect("the same seed", drawn[0], drawn[1])
    extra = {"mode": "tiny", "format": "markdown", "no_repeat_ngram_size": 20}
    expect("markdown", create(**asked, extra_body=extra).choices[0].message.content, text.strip())
    serving = {"skip_special_tokens": False, "vllm_xargs": {"ngram_size": 30, "window_size": 90, "whitelist_token_ids": [128821]}}
    create(**asked, extra_body=serving)
    both = create(**{**asked, "messages": reading(page(data), page(data, "gray.png"))})
    expect("the tokens of another image", both.usage.prompt_tokens > whole.usage.prompt_tokens + 64, True)
    expect("two images are another page", both.choices[0].message.content != text, True)
    turned = create(**{**asked, "messages": reading(page(data, "gray.png"), page(data))})
    expect("turned, they are yet another", turned.choices[0].message.content != both.choices[0].message.content, True)
    alone = create(model="small", messages=[{"role": "user", "content": "hello"}], max_completion_tokens=2)
    expect("a text without an image", alone.usage.completion_tokens, 2)


def errors(served, data):
    """Each error is the client's own exception for it."""
    client = client_of(served)
    create = client.chat.completions.create

    def image(url, **more):
        part = {"type": "image_url", "image_url": {"url": url}}
        return lambda: create(model="small", messages=reading(part), **more)

    refused("no key", openai.AuthenticationError, lambda: client_of(served, key="wrong").models.list(), "invalid_api_key")
    refused("another model", openai.NotFoundError, lambda: create(model="other", messages=reading()), "model_not_found")
    refused("an unknown model", openai.NotFoundError, lambda: client.models.retrieve("other"), "model_not_found")
    remote = refused("a remote image", openai.BadRequestError, image("https://example.com/a.png"), "remote_url_refused")
    expect("the field", remote.param, "messages[0].content[0].image_url.url")
    refused("a file", openai.BadRequestError, image("file:///etc/hostname"), "file_url_refused")
    refused("no image", openai.BadRequestError, image("data:image/png;base64,aGVsbG8="), "invalid_image")
    refused("two texts", openai.BadRequestError, lambda: create(model="small", messages=reading(page(data)), n=2))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    demanding = {"tools": [tool], "tool_choice": "required"}
    refused("a tool that must be used", openai.BadRequestError, lambda: create(model="small", messages=reading(), **demanding))
    large = refused("a long body", openai.APIStatusError, image("data:image/png;base64," + "A" * 3_000_000))
    expect("the status of a long body", large.status_code, 413)
    refused("another address", openai.NotFoundError, lambda: client.embeddings.create(model="small", input="x"))


def lenient(served):
    """What clients ask by the way: followed as far as it goes, and told."""
    client = client_of(served)
    create = client.chat.completions.with_raw_response.create
    asked = {"model": "small", "messages": reading(), "max_tokens": 2}
    answer = create(**asked, tools=[{"type": "function", "function": {"name": "look"}}], extra_body={"top": 1})
    expect("the warning", answer.headers.get("warning"), '299 mlxport "ignored: tools, top"')
    expect("a text in place of a call", answer.parse().usage.completion_tokens, 2)
    expect("no warning", create(**asked).headers.get("warning"), None)
    most = client.chat.completions.create(**{**asked, "max_tokens": 10**6}, stream=True)
    expect("more tokens than fit are asked for", next(iter(most)).choices[0].delta.role, "assistant")
    most.close()
    # Its place is free once the server has seen it go.
    while (health := served.health())["running"] or health["waiting"]:
        time.sleep(0.01)


def crowds(served, data):
    """More than are taken: told to come back, and let in once a client goes away."""
    client = client_of(served)
    endless = {"model": "small", "messages": reading(page(data)), "stream": True, "extra_body": {"no_repeat_ngram_size": 0}}
    under_way = [client.chat.completions.create(**endless) for _ in range(2)]
    # One waits for the two.
    waiting = threading.Thread(target=lambda: next(iter(client.chat.completions.create(**endless))), daemon=True)
    waiting.start()
    while (health := served.health())["running"] < 2 or health["waiting"] == 0:
        time.sleep(0.01)
    full = refused("a full queue", openai.RateLimitError, lambda: client.chat.completions.create(**endless), "queue_full")
    expect("when to come back", full.response.headers["retry-after"], "5")
    for stream in under_way:
        stream.close()
    waiting.join(timeout=60)
    expect("who waited is served", waiting.is_alive(), False)


def main():
    binary, checkpoint, data, work = map(pathlib.Path, sys.argv[1:5])
    directory = server.converted(binary, checkpoint, work)
    (work / "key").write_text(KEY + "\n")
    limits = ["--api-key-file", work / "key", "--max-body", "1MiB", "--batch", "2", "--queue", "1"]
    with server.Server(binary, directory, data, *limits) as served:
        client = client_of(served)
        texts(client, data)
        errors(served, data)
        lenient(served)
        crowds(served, data)
        # A stream that its client closed frees its place at the next step, so the server may be full for a moment.
        patient = client.with_options(max_retries=20)
        stream = patient.chat.completions.create(model="small", messages=reading(page(data)), max_tokens=200, stream=True)
        expect("the exit code", served.end(), 0)
        expect("what was under way", list(stream)[-1].choices[0].finish_reason in ("stop", "length"), True)
    shutil.rmtree(work)
    print(f"OpenAI's client {openai.__version__}: models, texts, streams, images, errors, a full queue and the end are as it expects")


main()
