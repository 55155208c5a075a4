"""Load on a running `peftbench serve`: requests from many connections, then rows per second, p50 and p99.

    peftbench serve --tasks tasks --port 8080 &
    python3 benches/load.py http://127.0.0.1:8080 --connections 16 --seconds 10 --rows 1

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
    connection = connection or http.client.HTTPConnection(place, timeout=60)
    connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rows", type=int, default=1, help="rows of a request")
    parser.add_argument("--words", type=int, default=20, help="words of a text")
    asked = parser.parse_args()
    place = urlsplit(asked.url).netloc
    names = [task["task"] for task in json.loads(ask(place, "/v1/tasks")[1])]
    times, refused, lock = [], [0], threading.Lock()
    end = time.monotonic() + asked.seconds

    def caller(number):
        connection = http.client.HTTPConnection(place, timeout=60)
        own, bad, turn = [], 0, number
        while time.monotonic() < end:
            rows = []
            for _ in range(asked.rows):
                turn += 1
                text = " ".join(WORDS[(turn + i) % len(WORDS)] for i in range(asked.words))
                rows.append({"task": names[turn % len(names)], "text": text})
            start = time.perf_counter()
            status, _ = ask(place, "/v1/predict", json.dumps({"rows": rows}), connection)
            if status == 200:
                own.append(time.perf_counter() - start)
            else:
                bad += 1
        with lock:
            times.extend(own)
            refused[0] += bad

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(asked.connections)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    times.sort()
    at = lambda share: 1000 * times[min(int(share * len(times)), len(times) - 1)]
    print(f"{len(names)} tasks, {asked.connections} connections, {asked.rows} rows a request, {took:.1f} s: "
          f"{asked.rows * len(times) / took:.0f} rows/s, p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, "
          f"{len(times)} requests answered, {refused[0]} refused")


if __name__ == "__main__":
    main()
