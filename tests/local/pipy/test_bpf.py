"""Object files, maps and programs of the kernel, from scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import PATIENCE, PIPY

SOURCE = """
#include <linux/bpf.h>
#define SEC(name) __attribute__((section(name), used))

union address { __u8 bytes[4]; __u32 whole; };
struct key { union address ip; __u16 port; };
struct value { __u64 hits; char name[8]; __s32 levels[2]; };

struct {
  int (*type)[BPF_MAP_TYPE_HASH];
  int (*max_entries)[8];
  struct key *key;
  struct value *value;
} table SEC(".maps");

struct {
  int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
  int (*max_entries)[2];
  __u32 *key;
  __u32 *value;
} each SEC(".maps");

extern void *lookup(void *, const void *) __attribute__((kernel_helper(BPF_FUNC_map_lookup_elem)));

__u64 unused, seen;

SEC("cgroup_skb/egress") int pass(struct __sk_buff *packet) {
  struct key key = {{{127, 0, 0, 1}}, 80};
  struct value *value = lookup(&table, &key);
  if (value) value->hits++;
  seen++;
  return 1;
}

SEC("cgroup_skb/egress") int bad(struct __sk_buff *packet) {
  struct key key = {{{127, 0, 0, 1}}, 80};
  struct value *value = lookup(&table, &key);
  return value->hits;
}

char license_of_this[] SEC("license") = "GPL";
"""

needs_compiler = pytest.mark.skipif(not shutil.which("bpf-gcc"), reason="needs gcc-bpf")


def _can() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    mounted = ["unshare", "--mount", "mount", "-t", "cgroup2", "none", "/mnt"]
    return subprocess.run(mounted, capture_output=True).returncode == 0


needs_root = pytest.mark.skipif(not _can(), reason="needs root and a kernel with cgroup2")


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """An object file."""
    source, compiled = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text(SOURCE)
    machine = subprocess.run(["cc", "-print-multiarch"], capture_output=True, text=True, check=True)
    system = ("-isystem", "/usr/include", "-isystem", f"/usr/include/{machine.stdout.strip()}")
    subprocess.run(
        ["bpf-gcc", "-O2", "-gbtf", *system, "-c", source, "-o", compiled],
        check=True,
        capture_output=True,
    )
    return compiled


def _run(folder: Path, script: str, *prefix: str) -> str:
    main = folder / "main.js"
    main.write_text(script)
    done = subprocess.run(
        [*prefix, PIPY, main], capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_compiler
def test_what_is_in_an_object_file_is_told_without_privileges(compiled: Path) -> None:
    shown = _run(
        compiled.parent,
        """
        var object = bpf.object(os.readFile(FILE))
        for (var { name, type, maxEntries, keySize, valueSize } of object.maps) {
          println(name, type, maxEntries, keySize, valueSize)
        }
        for (var { name, section, size } of object.programs) println(name, section, size % 8)
        var { keyType, valueType } = object.maps.find(map => map.name === 'table')
        println(JSON.stringify(keyType.decode(new Data('7f00000150000000', 'hex'))))
        println(valueType.encode({ hits: 7, name: 'a', levels: [-1] }).toString('hex'))
        """.replace("FILE", repr(str(compiled))),
    )
    lines = shown.splitlines()
    assert sorted(lines[:2]) == ["each 6 2 4 4", "table 1 8 8 24"]
    assert sorted(lines[2:4]) == ["bad cgroup_skb/egress 0", "pass cgroup_skb/egress 0"]
    assert lines[4] == '{"ip":{"bytes":[127,0,0,1],"whole":16777343},"port":80}'
    assert lines[5] == "0700000000000000" + "6100000000000000" + "ffffffff00000000"


@needs_compiler
def test_a_file_that_lies_is_refused_and_nothing_breaks(compiled: Path) -> None:
    shown = _run(
        compiled.parent,
        """
        var bytes = os.readFile(FILE).toArray()
        var read = 0, refused = 0
        function attempt(bytes) {
          try { bpf.object(new Data(bytes)); read++ } catch (error) {
            if (!/^bpf/.test(error.message)) throw error
            refused++
          }
        }
        // A generator of numbers that are the same each time.
        var seed = 1, next = most => (seed = seed * 48271 % 2147483647) % most
        // Some at a time: what takes long is stopped.
        function some(left) {
          for (var turn = 0; turn < 10; turn++) {
            attempt(bytes.slice(0, next(bytes.length)))
            var copy = bytes.slice()
            for (var change = 0; change < 3; change++) copy[next(copy.length)] = next(256)
            attempt(copy)
          }
          if (left) return new Timeout(0).wait().then(() => some(left - 1))
          println(read > 0, refused > 0)
          pipy.exit()
        }
        pipy().task().onStart(() => (some(80), new StreamEnd))
        """.replace("FILE", repr(str(compiled))),
    )
    assert shown == "true true\n"


@needs_compiler
@needs_root
def test_maps_and_programs_live_in_the_kernel(compiled: Path) -> None:
    script = """
        var object = bpf.object(os.readFile(FILE))
        var map = name => object.maps.find(map => map.name === name)
        var table = map('table'), each = map('each')
        var tried = what => { try { return what() } catch (error) { return error.message } }
        function all() {
          var key = { ip: { bytes: [127, 0, 0, 1] }, port: 80 }
          println('nothing', table.lookup(key))
          table.update(key, { hits: 1, name: 'web' })
          println('found', JSON.stringify(table.lookup(key)))
          println('again', tried(() => table.update(key, {}, 'BPF_NOEXIST')))
          println('keys', JSON.stringify(table.keys().map(key => key.port)))
          var other = bpf.Map.open(bpf.Map.list().find(map => map.id === table.id).id)
          println('bytes', other.lookup(table.keyType.encode(key)).size)
          println('size', tried(() => other.lookup(new Data('abc'))))
          println('deleted', table.delete(key), table.delete(key), table.entries().length)
          println('each', each.lookup(1).length > 0, each.lookup(1).every(value => value.i === 0))
          each.update(1, each.lookup(1).map((_, number) => number))
          println('each', each.lookup(1).every(({ i }, number) => i === number))
          var program = name => object.programs.find(program => program.name === name)
          println('bad', tried(() => program('bad').load('BPF_PROG_TYPE_CGROUP_SKB')))
          var pass = program('pass').load('BPF_PROG_TYPE_CGROUP_SKB', 'BPF_CGROUP_INET_EGRESS')
          println('listed', bpf.Program.list().some(program => program.name === 'pass'))
          println('group', bpf.cgroup('/mnt') > 0)
          bpf.attach('BPF_CGROUP_INET_EGRESS', pass.fd, '/mnt')
          bpf.detach('BPF_CGROUP_INET_EGRESS', pass.fd, '/mnt')
          println('twice', tried(() => bpf.detach('BPF_CGROUP_INET_EGRESS', pass.fd, '/mnt')))
          println('pin', tried(() => bpf.pin('/tmp/no-file-system-of-bpf', pass.fd)))
          println('type', tried(() => pass.load('BPF_PROG_TYPE_NONE')))
          table.close()
          println('closed', tried(() => table.keys()))
        }
        pipy().task().onStart(() => (all(), pipy.exit(), new StreamEnd))
    """.replace("FILE", repr(str(compiled)))
    mounted = ("unshare", "--mount", "sh", "-c", 'mount -t cgroup2 none /mnt && exec "$@"', "sh")
    lines = _run(compiled.parent, script, *mounted).splitlines()
    said = [line.split(" ", 1) for line in lines if not line.startswith(" ")]
    told: dict[str, str] = dict((name, text) for name, text in said)
    assert [name for name, _ in said if name == "each"] == ["each", "each"]
    assert told["nothing"] == "undefined"
    assert told["found"] == '{"hits":1,"name":"web","levels":[0,0]}'
    assert told["again"] == "bpf: cannot update: File exists (os error 17)"
    assert told["keys"] == "[80]"
    assert told["bytes"] == "24"
    assert "a key of 3 bytes, where 8 are expected" in told["size"]
    assert told["deleted"] == "true false 0"
    assert told["each"] in ("true", "true true")
    assert told["bad"].startswith("bpf: the kernel refuses the program bad: Permission denied")
    assert any("invalid mem access" in line for line in lines), lines
    assert told["listed"] == "true"
    assert told["group"] == "true"
    assert told["twice"].startswith("bpf: cannot detach from /mnt: ")
    assert told["pin"].startswith("bpf: cannot pin /tmp/no-file-system-of-bpf: ")
    assert told["type"] == "bpf: unknown type of programs: BPF_PROG_TYPE_NONE"
    assert told["closed"] == "bpf: the map table is closed"
