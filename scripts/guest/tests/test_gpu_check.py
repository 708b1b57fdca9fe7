"""Tests `scripts/gpu-check` with fake programs, without a GPU."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

GPU_CHECK = Path(__file__).resolve().parents[2] / "gpu-check"

# A fake peerpath. Reads mechanism and size from its command line, and prints the warning of a
# library to stderr.
PEERPATH = """#!{python}
import json, os, sys
from pathlib import Path
told = json.loads(os.environ["TOLD"])
arguments = sys.argv[1:]
print("libibverbs: Warning: no configuration", file=sys.stderr)
if arguments[0] == "list":
    print(json.dumps([]) if "--json" in arguments else "no PCI functions")
elif arguments[0] == "report":
    Path(arguments[arguments.index("--out") + 1]).write_text("page")
elif arguments[0] == "run":
    of = lambda option: [after for word, after in zip(arguments, arguments[1:]) if word == option]
    out = Path(of("--out")[0])
    if told.get("fails"):
        print("error: " + told["fails"], file=sys.stderr)
        sys.exit(told["code"])
    cells = []
    for target in of("--to"):
        for size in of("--size"):
            size_bytes = int(size[:-1]) << {{"K": 10, "M": 20, "G": 30}}[size[-1]] if size[-1] in "KMG" else int(size)
            cells.append({{
                "id": f"{{of('--from')[0]}}/{{target}}/copy_in/bandwidth/{{size_bytes}}/1",
                "source": {{"kind": "cuda"}}, "target": {{"kind": "cuda"}}, "op": "copy_in", "mode": "bandwidth",
                "mechanism": target.split("=")[1], "size_bytes": size_bytes, "outcome": "passed",
                "throughput_bytes_per_s": 1e12,
            }})
    result = {{
        "run": {{"arguments": arguments, "plan": {{}}}}, "cells": cells,
        "environment": {{"emulated": False, "soft_rdma": False, "devices": []}},
    }}
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(result))
    print(f"saved to {{out}}")
"""

COPY_LOOP = """#!{python}
import json, os, sys
print("a driver warns", file=sys.stderr)
print(json.dumps({{"bytes_per_s": json.loads(os.environ["TOLD"]).get("plain", 1e12)}}))
"""


class GpuCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out"
        (self.folder / "programs").mkdir()
        self.program("peerpath", PEERPATH)
        self.program("copy_loop", COPY_LOOP)

    def program(self, name: str, text: str):
        path = self.folder / "programs" / name
        path.write_text(text.format(python=sys.executable))
        path.chmod(0o755)

    def check(self, *arguments: str, **told) -> subprocess.CompletedProcess:
        # A fixed environment, independent of the machine.
        environment = {"TOLD": json.dumps(told), "PATH": os.defpath, "LC_ALL": "C"}
        command = [sys.executable, "-B", GPU_CHECK, "--bin", "programs", "--out", "out", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def test_merges_results_and_omits_paths_of_the_machine(self):
        done = self.check("--quick")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        result = json.loads((self.out / "result.json").read_text())
        self.assertEqual(result["run"]["arguments"], ["gpu-check", "--gpu", "0", "--quick"])
        self.assertEqual(len(result["run"]["plan"]["runs"]), 5)
        summary = json.loads((self.out / "summary.json").read_text())
        self.assertEqual({row["ratio"] for row in summary["plain_loop"]}, {1.0})
        files = [path for path in self.out.rglob("*") if path.is_file()]
        self.assertGreater(len(files), 15)
        for path in files:
            self.assertNotIn(str(self.folder), path.read_text(), path)

    def test_fails_when_copies_are_slower_than_a_plain_loop(self):
        done = self.check("--quick", plain=1.2e12)
        self.assertEqual(done.returncode, 1)
        self.assertIn("plain loop", done.stderr)

    def test_keeps_and_ignores_results_of_an_earlier_check(self):
        self.assertEqual(self.check("--quick").returncode, 0)
        earlier = (self.out / "result.json").read_text()
        done = self.check("--quick", fails="there is no GPU 7", code=2)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no GPU 7", done.stderr)
        self.assertFalse((self.out / "result.json").exists())
        self.assertEqual((self.folder / "out-1" / "result.json").read_text(), earlier)
        self.check("--quick")
        self.assertTrue((self.folder / "out-2" / "runs").is_dir())

    def test_names_missing_and_unusable_programs(self):
        self.program("peerpath", "#!/nowhere/python\n")
        done = self.check()
        self.assertEqual(done.returncode, 4)
        self.assertIn("cannot run", done.stderr)
        (self.folder / "programs" / "peerpath").unlink()
        done = self.check()
        self.assertEqual(done.returncode, 4)
        self.assertIn("cannot find the program `peerpath`", done.stderr)


if __name__ == "__main__":
    unittest.main()
