"""What an interrupted command says of what it had completed."""

import subprocess
import sys

PROGRAM = """
import sys
from dcsim.interrupt import last_word
from dcsim.writing import whole_file, whole_folder, write_text
print(last_word())
try:
    with whole_folder("runs/half"):
        raise ValueError
except ValueError:
    print(last_word())
with whole_file("kept.bin", told=False) as part:
    part.write_bytes(b"x")
print(last_word())
with whole_folder("runs/one") as work:
    (work / "a").write_text("a")
write_text("table.csv", "a")
print(last_word())
"""


def test_only_what_is_complete_is_said_to_be(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    nothing = "interrupted; nothing was written"
    assert done.stdout.splitlines() == [nothing, nothing, nothing, "interrupted; complete: runs/one, table.csv"]
