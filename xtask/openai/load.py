#!/usr/bin/env python3
"""Many clients at once against `mlxport serve`, ten of them slow or gone midway; it is killed in the middle and started again.

    python load.py MLXPORT CHECKPOINT DATA WORK SECONDS [CLIENTS]

The first four are those of drive.py. Each request must get, in the end, just the text that it gets alone; the server's memory must stay flat. Prints how
long the first byte and the first token take. Standard library only. Exit code 0: nothing was lost or mixed up, and memory is flat.
"""
import base64
import http.client
import json
import pathlib
import random
import shutil
import statistics
import sys
import threading
import time

import server

# What ten clients do instead of asking and reading.
SLOW_BODY, SLOW_READER, GONE = range(2), range(2, 5), range(5, 10)
HEADERS = {"Content-Type": "application/json"}


def prompts(data):
    """Requests that are told apart by their texts."""
    page = base64.b64encode((data / "pages" / "small.png").read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + page}}
    words = "one two three four five six seven eight nine ten eleven twelve".split()
    texts = [f"{first} {second}, read this:" for first in words for second in words if first < second][:20]
    contents = [[{"type": "text", "text": text}] for text in texts]
    contents += [[image, {"type": "text", "text": text}] for text in texts[:6]]
    return [{"model": "small", "max_tokens": 24, "messages": [{"role": "user", "content": content}]} for content in contents]


class Load:
    """What all clients share."""

    def __init__(self, port, bodies):
        self.port, self.bodies, self.lock = port, bodies, threading.Lock()
        self.alone, self.first_byte, self.first_token, self.trouble = [], [], [], []
        self.patience = 110
        self.answered = self.refused = self.cut = self.gone = 0

    def count(self, name):
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)

    def post(self, body, stream):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        client.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": stream}), HEADERS)
        return client, client.getresponse()

    def text(self, answer, begun, pause=0.0):
        """A streamed answer's text, and when its first byte and token came. No end: an error."""
        pieces, byte, token = [], None, None
        while line := answer.readline():
            if not line.endswith(b"\n"):
                break
            byte = byte or time.monotonic() - begun
            time.sleep(pause)
            line = line.strip()
            if line == b"data: [DONE]":
                return "".join(pieces), byte, token
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    raise ConnectionError(event["error"]["code"])
                for choice in event["choices"]:
                    piece = choice["delta"].get("content") or ""
                    token = token or (time.monotonic() - begun if piece else None)
                    pieces.append(piece)
        raise ConnectionError("the stream ended early")

    def ask(self, at, stream, pause=0.0):
        """Asks until there is an answer, as OpenAI's client does: again after 429, 503 and a lost connection."""
        begun = time.monotonic()
        while time.monotonic() - begun < self.patience:
            try:
                since = time.monotonic()
                client, answer = self.post(self.bodies[at], stream)
                if answer.status in (429, 503):
                    if not answer.getheader("Retry-After"):
                        self.wrong(f"{answer.status} without Retry-After")
                    self.count("refused")
                    time.sleep(random.uniform(0.2, 1.0))
                    continue
                if answer.status != 200:
                    return self.wrong(f"{answer.status}: {answer.read(300)}")
                if stream:
                    text, byte, token = self.text(answer, since, pause)
                    with self.lock:
                        self.first_byte.append(byte)
                        self.first_token += [token] if token else []
                else:
                    text = json.loads(answer.read())["choices"][0]["message"]["content"]
                client.close()
                self.count("answered")
                return text
            except (OSError, http.client.HTTPException):
                # The server was killed, or is not yet back.
                self.count("cut")
                time.sleep(0.5)
        return self.wrong(f"no answer in {self.patience} s")

    def wrong(self, what):
        with self.lock:
            self.trouble.append(what)

    def client(self, number, until):
        drawn = random.Random(number)
        while time.monotonic() < until:
            at, stream = drawn.randrange(len(self.bodies)), drawn.random() < 0.7
            try:
                if number in SLOW_BODY:
                    self.slow_body()
                elif number in GONE:
                    client, answer = self.post(self.bodies[at], True)
                    answer.read(drawn.choice((0, 1, 300, 900)))
                    client.sock and client.sock.close()
                    client.close()
                    self.count("gone")
                    time.sleep(0.2)
                elif (text := self.ask(at, stream or number in SLOW_READER, 0.1 if number in SLOW_READER else 0.0)) is not None:
                    if text != self.alone[at]:
                        self.wrong(f"request {at}: expected {self.alone[at]!r}, found {text!r}")
            except (OSError, http.client.HTTPException):
                time.sleep(0.5)
            except Exception as error:
                self.wrong(f"client {number}: {error!r}")

    def slow_body(self):
        """Some bytes of a long body each half second."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        client.putrequest("POST", "/v1/chat/completions")
        for name, value in {**HEADERS, "Content-Length": "1000000"}.items():
            client.putheader(name, value)
        client.endheaders()
        for _ in range(20):
            client.send(b" " * 100)
            time.sleep(0.5)
        client.close()


def resident(process):
    """Megabytes of a process that are in memory."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    line = next((line for line in status.read_text().splitlines() if line.startswith("VmRSS")), None) if status.exists() else None
    return int(line.split()[1]) / 1024 if line else None


def watch(process, until, samples):
    while time.monotonic() < until:
        time.sleep(0.5)
        megabytes = resident(process)
        if megabytes:
            samples.append(megabytes)


def shown(name, seconds):
    found = sorted(seconds)
    at = lambda share: found[min(len(found) - 1, int(share * len(found)))]
    return f"{name}: p50 {at(0.5):.2f} s, p99 {at(0.99):.2f} s, longest {found[-1]:.2f} s"


def main():
    binary, checkpoint, data, work = map(pathlib.Path, sys.argv[1:5])
    seconds, clients = float(sys.argv[5]), int(sys.argv[6]) if len(sys.argv) > 6 else 64
    directory, samples = server.converted(binary, checkpoint, work), []
    with server.Server(binary, directory, data) as first:
        load = Load(first.port, prompts(data))
        load.alone = [load.ask(at, False) for at in range(len(load.bodies))]
        if load.trouble or first.process.poll() is not None:
            sys.exit(f"asked alone: {load.trouble}, the server ended with {first.process.poll()}")
        load.answered = 0
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=load.client, args=(number, until), daemon=True) for number in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 4)
    # Killed; the clients ask again.
    with server.Server(binary, directory, data, port=first.port) as second:
        watch(second.process, until, samples)
        for thread in threads:
            thread.join(timeout=240)
        if any(thread.is_alive() for thread in threads):
            load.wrong("a client never ended")
        ended = time.monotonic()
        while (health := second.health())["running"] or health["waiting"]:
            if time.monotonic() - ended > 60:
                load.wrong(f"texts that nobody reads: {health}")
                break
            time.sleep(0.5)
        if second.end() != 0:
            load.wrong("the server did not end with 0")
    third = len(samples) // 3
    before, after = (statistics.median(samples[at * third : (at + 1) * third]) for at in (1, 2)) if third else (0, 0)
    if after > before * 1.1 + 10:
        load.wrong(f"memory grows: {before:.0f} MB, then {after:.0f} MB")
    print(f"{clients} clients, {seconds:.0f} s: {load.answered} answers, {load.gone} gone midway, {load.refused} told to come back, {load.cut} cut off or refused a connection")
    print(shown("first byte of a stream", load.first_byte), shown("first token", load.first_token), sep="\n")
    print(f"memory: {before:.0f} MB, then {after:.0f} MB; lost or mixed up: {len(load.trouble)}")
    shutil.rmtree(work)
    sys.exit("\n".join(load.trouble[:10]) or 0)


main()
