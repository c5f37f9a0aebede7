"""`mlxport serve` under test: a small random model with the release's vocabulary, and a process that is killed at the end."""
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import urllib.request

import model


def converted(binary, checkpoint, work):
    """Empties `work` and makes a small model in it; returns the model's directory."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    model.make(checkpoint, work / "release")
    subprocess.run([binary, "convert", work / "release", work / "small"], check=True, stdout=subprocess.DEVNULL)
    return work / "small"


class Server:
    """`mlxport serve` on a free port, or on `port`."""

    def __init__(self, binary, directory: pathlib.Path, data, *more, port=0):
        flags = ["--port", str(port), "--json", "--mode", "tiny", "--tokenizer", data / "tokenizer.json"]
        self.log = directory.with_suffix(".log").open("a+")
        command = [binary, "serve", "--model", directory, *flags, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def __enter__(self):
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            sys.exit("the server did not begin:\n" + self.log.read())
        self.host, _, port = json.loads(line)["address"].rpartition(":")
        self.port = int(port)
        return self

    def health(self):
        with urllib.request.urlopen(f"http://{self.host}:{self.port}/health", timeout=60) as answer:
            return json.load(answer)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()
