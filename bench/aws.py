"""AWS on this machine: DynamoDB as moto plays it, and Lambda's runtime API, which a function asks for events and answers."""
import http.server
import json
import queue
import re
import subprocess
import sys
import threading
import time
import uuid

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
TABLE = "dmdb_logs"
ANSWER_S = 30


class Moto:
    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = found[0]
                break
        else:
            raise SystemExit("error: moto did not start: run scripts/setup.sh --stores")
        # Its log is read to the end, so that it never waits for a reader.
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def make_table(self):
        import boto3  # moto needs it, and nothing else does

        client = boto3.client("dynamodb", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="test",
                              aws_secret_access_key="test")
        client.create_table(TableName=TABLE, BillingMode="PAY_PER_REQUEST",
                            AttributeDefinitions=[{"AttributeName": "run_id", "AttributeType": "S"}],
                            KeySchema=[{"AttributeName": "run_id", "KeyType": "HASH"}])


class Runtime(http.server.BaseHTTPRequestHandler):
    """The runtime API (2018-06-01)."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        event = self.server.events.get()
        if event is None:
            self.close_connection = True
            return
        self.answer(200, json.dumps(event).encode(), {
            "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()), "Lambda-Runtime-Trace-Id": "Root=1-0-0;Sampled=0",
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + ANSWER_S) * 1e3)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:datamorph-logger"})

    def do_POST(self):
        body = self.body()
        self.server.said.put((time.perf_counter(), self.path.rsplit("/", 1)[1], json.loads(body)))
        self.answer(202, b'{"status":"OK"}', {})

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Api(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Runtime)
        self.events, self.said = queue.Queue(), queue.Queue()

    def handle_error(self, request, client_address):
        # A function that is killed is gone in the middle of something.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Function:
    """A running function of Lambda. Its first event waits for it before it is started."""

    def __init__(self, binary, event, environment):
        self.api = Api()
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        self.api.events.put(event)
        variables = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}", "AWS_LAMBDA_FUNCTION_NAME": "datamorph-logger",
                     "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", **ENVIRONMENT, **environment}
        self.started = time.perf_counter()
        self.process = subprocess.Popen([binary], env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.first_answer_s = self.hear() - self.started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.api.events.put(None)
        self.api.shutdown()
        self.api.server_close()

    def hear(self):
        """When it answered; it must have taken the entry."""
        at, kind, answer = self.api.said.get(timeout=ANSWER_S)
        if kind != "response" or answer.get("statusCode") != 200:
            raise SystemExit(f"error: the function refused an entry: {answer}")
        return at

    def invoke(self, event):
        self.api.events.put(event)
        self.hear()

    def peak_megabytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"^VmHWM:\s+(\d+)", status.read(), re.MULTILINE)[1]) * 1024 / 1e6
