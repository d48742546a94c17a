"""Is the OpenAPI document true? openapi.py <url>: its form, each example of a body, a parameter or a header against its
schema, and each example of a request against the server. The last line says how many there were, as JSON."""

import json
import sys
import urllib.parse
import urllib.request

import jsonschema_rs
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

url = sys.argv[1]
found = {"examples": 0, "requests": 0}


def ask(method, path, body=None, headers=None):
    request = urllib.request.Request(url + path, data=body, headers=headers or {}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, answer.headers, answer.read()


def check(schema, value, what):
    whole = {**schema, "components": document["components"]}
    for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(value):
        sys.exit(f"{what}: {error}\n{json.dumps(value)}")
    found["examples"] += 1


def check_body(content, what):
    for media, body in content.items():
        assert body["examples"], f"{what} {media} has no example"
        for name, example in body["examples"].items():
            check(body["schema"], example["value"], f"{what} {media} {name}")


def resolve(node):
    return document["components"][node["$ref"].split("/")[2]][node["$ref"].split("/")[3]] if "$ref" in node else node


def spelt(parameter):
    """A parameter's example as it stands in a query."""
    value = parameter["example"]
    if isinstance(value, dict):
        return value
    return {parameter["name"]: ",".join(map(str, value)) if isinstance(value, list) else value}


def send(method, path, operation, query=None, headers=None, body=None):
    """The answer is one of the document's, and says that the request was right."""
    query = "?" + urllib.parse.urlencode(query) if query else ""
    status, given, answer = ask(method, path + query, body, headers)
    response = operation["responses"][str(status)]
    assert 200 <= status < 300, f"{method} {path}{query}: {status}"
    media = given["Content-Type"].split(";")[0]
    value = json.loads(answer) if media == "application/json" else answer.decode()
    check(response["content"][media]["schema"], value, f"{method} {path}{query}")
    found["requests"] += 1


document = json.loads(ask("GET", "/openapi.json")[2])
for error in OPENAPI_31_VALIDATOR.iter_errors(document):
    sys.exit(f"not OpenAPI 3.1: {error}")
for name, header in document["components"]["headers"].items():
    value = header["example"]
    check(header["schema"], int(value) if header["schema"].get("type") == "integer" else value, name)

operations = [
    (method, path, operation) for path, methods in document["paths"].items() for method, operation in methods.items()
]
# What is read was sent before.
for method, path, operation in sorted(operations, key=lambda one: one[0] != "post" or one[1] != "/api/v1/logs"):
    what = f"{method} {path}"
    for status, response in operation["responses"].items():
        check_body(response.get("content", {}), f"{what} {status}")
    body = operation.get("requestBody", {}).get("content", {})
    check_body(body, what)
    parameters = [resolve(parameter) for parameter in operation["parameters"]]
    for parameter in parameters:
        if "example" in parameter:
            check(parameter["schema"], parameter["example"], f"{what} {parameter['name']}")
        elif parameter["name"] != "cursor":
            sys.exit(f"{what}: {parameter['name']} has no example")
        if parameter["in"] == "path":
            path = path.replace("{%s}" % parameter["name"], parameter["example"])
    for media, examples in body.items():
        for example in examples["examples"].values():
            value = example["value"]
            content = value if isinstance(value, str) else json.dumps(value)
            send(method.upper(), path, operation, body=content.encode(), headers={"Content-Type": media})
    needed = {}
    for parameter in parameters:
        if parameter["in"] == "query" and parameter.get("required"):
            needed |= spelt(parameter)
    if not body:
        send(method.upper(), path, operation, query=needed)
    for parameter in parameters:
        if parameter["in"] == "query" and "example" in parameter:
            send(method.upper(), path, operation, query=needed | spelt(parameter))
        if parameter["in"] == "header" and not body:
            send(method.upper(), path, operation, query=needed, headers={parameter["name"]: parameter["example"]})

print(json.dumps(found))
