import io
import tempfile
import unittest
from pathlib import Path

from boxwood import Archive, NotAContainer
from boxwood.__main__ import main


def example():
    box = Archive.create(chunk_size=4)
    box.add("dir/ä.txt", b"first line", mode=0o640)
    box.add("empty", b"")
    return box


class ContainerTests(unittest.TestCase):
    def test_there_and_back(self):
        box = Archive.load(example().dump())
        self.assertEqual(box.names(), ["dir/ä.txt", "empty"])
        self.assertEqual((box.read("dir/ä.txt"), box.mode("dir/ä.txt")), (b"first line", 0o640))
        self.assertEqual(box.dump(), example().dump())

    def test_bytes_that_are_no_container(self):
        good = example().dump()
        for data, reason in ((b"", "no container"), (b"ZIPX" + good[4:], "no container"), (good[:-1], "check sum"),
                             (good[:30] + b"?" + good[31:], "check sum")):
            with self.assertRaisesRegex(NotAContainer, reason):
                Archive.load(data)

    def test_command_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.box"
            path.write_bytes(example().dump())
            for command, code, told in (("list", 0, "000640         10 dir/ä.txt"), ("check", 0, "2 entries, 10 bytes"),
                                        ("open", 2, "usage")):
                out = io.StringIO()
                self.assertEqual(main([command, str(path)], out), code)
                self.assertIn(told, out.getvalue())
            path.write_bytes(b"nothing")
            self.assertEqual(main(["list", str(path)], io.StringIO()), 1)


if __name__ == "__main__":
    unittest.main()
