"""What the tests of OpenAI's HTTP share: a fleet with a gateway in front of it."""

import base64
import pathlib

from fleet import FleetTest

MODEL = "model"  # the folder of the nano model


def data_uri(path):
    return "data:image/png;base64," + base64.b64encode(pathlib.Path(path).read_bytes()).decode()


def openai_form(messages):
    """nano_conversations()' short parts as OpenAI's clients write them."""
    def part(short):
        if "text" in short:
            return {"type": "text", "text": short["text"]}
        return {"type": "image_url", "image_url": {"url": data_uri(short["image"])}}

    return [{"role": message["role"], "content": [part(one) for one in message["content"]]} for message in messages]


def form(picture, purpose="vision"):
    """The body that uploads those bytes, and its type."""
    boundary = "a-boundary-of-tests"
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n--{boundary}\r\n'
            'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
            ).encode() + picture + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


class GatewayFleetTest(FleetTest):
    def start_all(self, *flags, **fleet):
        """The gateway, the routers, the workers."""
        self.routers, self.workers = self.start_fleet(**fleet)
        at = ",".join(router.address for router in self.routers)
        self.gateway = self.start("gateway", f"--router={at}", "--listen=127.0.0.1:0", *flags).await_ready()
        return [self.gateway, *self.routers, *self.workers]
