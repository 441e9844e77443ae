"""Messages as dictionaries, by means of a schema that gives names to tags."""

from .errors import SchemaError
from .tlv import CONTAINER, Node, decode_nodes, encode_nodes


def _pack_int(value):
    return value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)


def _unpack_int(data):
    return int.from_bytes(data, "big", signed=True)


_CODECS = {
    "int": (_pack_int, _unpack_int),
    "text": (lambda value: value.encode("utf-8"), lambda data: data.decode("utf-8")),
    "bytes": (bytes, bytes),
}


class Schema:
    """``{name: (tag, type)}``; the type is int, text, bytes or another schema."""

    def __init__(self, fields):
        self._by_name = {}
        self._by_tag = {}
        for name, (tag, kind) in fields.items():
            full = tag | CONTAINER if isinstance(kind, Schema) else tag
            if full in self._by_tag:
                raise SchemaError("tag %02X is used twice" % full)
            self._by_name[name] = (full, kind)
            self._by_tag[full] = (name, kind)

    def pack(self, message):
        """TLV bytes of ``message``, in the order of its keys; a list repeats a field."""
        return encode_nodes(self._nodes(message))

    def _nodes(self, message):
        nodes = []
        for name, content in message.items():
            if name not in self._by_name:
                raise SchemaError("no field %r" % name)
            tag, kind = self._by_name[name]
            for value in content if isinstance(content, list) else [content]:
                if isinstance(kind, Schema):
                    nodes.append(Node(tag, kind._nodes(value)))
                else:
                    nodes.append(Node(tag, _CODECS[kind][0](value)))
        return nodes

    def unpack(self, data):
        """The reverse of ``pack``; tags that the schema lacks are passed over."""
        return self._message(decode_nodes(data))

    def _message(self, nodes):
        message = {}
        for node in nodes:
            if node.tag not in self._by_tag:
                continue
            name, kind = self._by_tag[node.tag]
            if isinstance(kind, Schema):
                value = kind._message(node.value)
            else:
                value = _CODECS[kind][1](node.value)
            if name not in message:
                message[name] = value
            elif isinstance(message[name], list):
                message[name].append(value)
            else:
                message[name] = [message[name], value]
        return message
