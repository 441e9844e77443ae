import unittest

from tarnlink import Node, Schema, SchemaError, TlvError, decode_nodes, encode_nodes

READING = Schema({"at": (1, "int"), "level": (2, "int")})
STATION = Schema({"name": (1, "text"), "reading": (2, READING), "raw": (3, "bytes")})


class TlvTests(unittest.TestCase):
    def test_nested_bytes(self):
        nodes = [Node(0x82, [Node(1, b"ab"), Node(0x83, [])]), Node(2, b"")]
        self.assertEqual(encode_nodes(nodes).hex(), "820601026162" + "8300" + "0200")
        self.assertEqual(decode_nodes(encode_nodes(nodes)), nodes)

    def test_lengths_around_the_limits_of_a_byte(self):
        for length, prefix in ((127, "017f"), (128, "018001"), (16384, "01808001")):
            nodes = [Node(1, bytes(length))]
            encoded = encode_nodes(nodes)
            self.assertTrue(encoded.hex().startswith(prefix))
            self.assertEqual(decode_nodes(encoded), nodes)

    def test_cut_off_or_too_deep(self):
        for text in ("01", "010261", "0180", "01ffffffff01"):
            with self.assertRaises(TlvError):
                decode_nodes(bytes.fromhex(text))
        nodes = []
        for _ in range(9):
            nodes = [Node(0x81, nodes)]
        with self.assertRaises(TlvError):
            decode_nodes(encode_nodes(nodes))


class SchemaTests(unittest.TestCase):
    def test_round_trip(self):
        message = {"name": "weir", "raw": b"\x00~",
                   "reading": [{"at": 0, "level": -129}, {"at": 70000, "level": 127}]}
        self.assertEqual(STATION.unpack(STATION.pack(message)), message)

    def test_unknown_tags_are_passed_over(self):
        self.assertEqual(STATION.unpack(encode_nodes([Node(9, b"?"), Node(1, b"weir")])),
                         {"name": "weir"})

    def test_unknown_names_are_refused(self):
        with self.assertRaises(SchemaError):
            STATION.pack({"colour": "red"})


if __name__ == "__main__":
    unittest.main()
