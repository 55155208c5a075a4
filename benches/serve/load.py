"""Load on a running `peftbench serve`: requests from many connections, then rows per second, p50 and p99.

    peftbench serve --tasks tasks --port 8080 &
    python3 benches/serve/load.py http://127.0.0.1:8080 --connections 16 --seconds 10 --rows 1

Needs nothing but Python. Each connection sends its next request when it has the answer to the last one (a closed loop).
"""

import argparse
import http.client
import json
import threading
import time
from urllib.parse import urlsplit

WORDS = "a film that is very good or bad and long with an odd story by him for us".split()


def ask(place, path, body=None, connection=None):
    """Status and body of an answer."""
    connection = connection or http.client.HTTPConnection(place, timeout=60)
    connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def text(number, words=20):
    return " ".join(WORDS[(number + i) % len(WORDS)] for i in range(words))


def load(place, tasks, connections, seconds, rows=1, words=20):
    """Rows per second, p50 and p99 in ms, requests answered and requests refused."""
    times, refused, lock = [], [0], threading.Lock()
    end = time.monotonic() + seconds

    def caller(number):
        connection = http.client.HTTPConnection(place, timeout=60)
        own, bad, turn = [], 0, number
        while time.monotonic() < end:
            asked = []
            for _ in range(rows):
                turn += 1
                asked.append({"task": tasks[turn % len(tasks)], "text": text(turn, words)})
            start = time.perf_counter()
            status, _ = ask(place, "/v1/predict", json.dumps({"rows": asked}), connection)
            if status == 200:
                own.append(time.perf_counter() - start)
            else:
                bad += 1
        with lock:
            times.extend(own)
            refused[0] += bad

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(connections)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    times.sort()
    at = lambda share: 1000 * times[min(int(share * len(times)), len(times) - 1)] if times else float("nan")
    return {"connections": connections, "rows_per_second": rows * len(times) / took, "p50_ms": at(0.5), "p99_ms": at(0.99),
            "answered": len(times), "refused": refused[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rows", type=int, default=1, help="rows of a request")
    parser.add_argument("--words", type=int, default=20, help="words of a text")
    asked = parser.parse_args()
    place = urlsplit(asked.url).netloc
    tasks = [task["task"] for task in json.loads(ask(place, "/v1/tasks")[1])]
    found = load(place, tasks, asked.connections, asked.seconds, asked.rows, asked.words)
    print(f"{len(tasks)} tasks, {asked.connections} connections, {asked.rows} rows a request: "
          f"{found['rows_per_second']:.0f} rows/s, p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms, "
          f"{found['answered']} requests answered, {found['refused']} refused")


if __name__ == "__main__":
    main()
