"""Many clients with heavy queries, each asking again as soon as it is answered, and later where it is refused."""
import collections
import http.client
import json
import threading
import urllib.parse

HEAVY = [
    "SELECT logger_name, hostname, count(DISTINCT message) FROM logs GROUP BY 1, 2",
    "SELECT message, count(*) FROM logs GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
    "SELECT a.run_id, count(*) FROM logs a JOIN logs b ON a.hostname = b.hostname AND a.level = b.level GROUP BY 1",
    "SELECT count(*) FROM logs WHERE regexp_like(message, '(a|b|c)+.*[0-9]{3}.*x')",
    "SELECT * FROM logs ORDER BY message LIMIT 1000",
]


class Crowd:
    def __init__(self, url, size):
        self.where = urllib.parse.urlsplit(url)
        self.stop = threading.Event()
        self.answers = collections.Counter()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, args=(number,), daemon=True) for number in range(size)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def ask(self, number):
        connection = http.client.HTTPConnection(self.where.hostname, self.where.port, timeout=120)
        while not self.stop.is_set():
            try:
                number = self.once(connection, number)
            except OSError as error:
                with self.lock:
                    self.answers[type(error).__name__] += 1
                connection.close()

    def once(self, connection, number):
        body = json.dumps({"sql": HEAVY[number % len(HEAVY)], "timeout_ms": 5_000, "max_rows": 1_000})
        connection.request("POST", "/api/v1/query", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        with self.lock:
            self.answers[answer.status] += 1
        if answer.status == 429:
            self.stop.wait(float(answer.headers.get("Retry-After", 1)))
        return number + 1
