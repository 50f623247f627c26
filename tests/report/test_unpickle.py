"""The restricted unpickler: every protocol of arrays comes out equal, and nothing that a file says is ever run."""

import builtins
import copyreg
import gzip
import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trqam.config.errors import UserError
from trqam.report import unpickle
from trqam.report.unpickle import Refused, read_arrays, unpickled

rng = np.random.default_rng(0)
CURVES = {
    ("task", "a"): rng.random((30, 12)),
    ("task", "b"): rng.random((30, 12)).astype("f4"),
    ("task", "c"): np.asfortranarray(rng.random((30, 12))),
    ("task", "d"): rng.random((30, 12)).astype(">f8"),
    ("task", "e"): rng.random((30, 24))[:, ::2],
    ("task", "f"): rng.random((3, 4, 5)).transpose(1, 0, 2).astype("f2"),
    (np.str_("all"), np.str_("ü")): rng.random((1, 1)),
}


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.fixture
def refuse(tmp_path, monkeypatch):
    """Writes a pickle, expects one line of refusal, and that nothing ran."""
    monkeypatch.chdir(tmp_path)

    def check(content, match, name="curves.pkl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=match) as error:
            read_arrays(name)
        assert str(error.value).startswith(f"{name}: ")
        assert "\n" not in str(error.value)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 400
        assert sorted(path.name for path in tmp_path.iterdir()) == [name], "a file appeared: something was executed"

    return check


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(tmp_path, protocol):
    path = tmp_path / "curves.pkl"
    path.write_bytes(pickle.dumps(CURVES, protocol))
    found = read_arrays(path)
    assert list(found) == [(str(task), str(method)) for task, method in CURVES]
    for value, expected in zip(found.values(), CURVES.values(), strict=True):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


def test_arrays_of_python_2_and_of_older_numpy(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    text = values.tobytes()
    python2 = (  # as numpy 1 under Python 2 wrote it: strings, and the old module
        b"\x80\x02}U\x04taskU\x01m\x86cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + struct.pack("<I", len(text)) + text + b"tbs."
    )
    numpy1 = pickle.dumps({("task", "m"): values}, 4).replace(
        pickle.dumps("numpy._core.multiarray", 4)[11:-2], pickle.dumps("numpy.core.multiarray", 4)[11:-2]
    )
    for content in (python2, numpy1.replace(numpy1[2:11], b"")):  # the replaced name is shorter: no frame
        (tmp_path / "old.pkl").write_bytes(content)
        np.testing.assert_array_equal(read_arrays(tmp_path / "old.pkl")["task", "m"], values)


def test_the_payloads_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Calls(os.system, "touch canary")))
    assert (tmp_path / "canary").exists(), "the next test would pass whatever the unpickler does"


def test_calls_are_refused_by_name(refuse):
    array = np.zeros((30, 8))
    command = "touch canary"
    for call, name in (
        (Calls(os.system, command), "posix.system"),
        (Calls(builtins.eval, "open('canary', 'w')"), "builtins.eval"),
        (Calls(builtins.exec, "open('canary', 'w')"), "builtins.exec"),
        (Calls(builtins.open, "canary", "w"), "io.open"),
        (Calls(np.load, "canary.npy"), "numpy.load"),
        (Calls(np.save, "canary.npy", array), "numpy.save"),
        (Calls(np.memmap, "canary", "f8", "w+", 0, (9,)), "numpy.memmap"),
        (Calls(copyreg._reconstructor, object, object, None), "copy_?reg._reconstructor"),
    ):
        for protocol in (0, 2, 4):
            refuse(pickle.dumps({("task", "m"): call}, protocol), name.replace("builtins", "(builtins|__builtin__)"))
            refuse(pickle.dumps(call, protocol), "which is no part of an array; nothing of it was run")
    chain = b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\ntR(Vtouch canary\ntR."
    refuse(chain, "builtins.getattr")
    run = b'cnumpy.testing._private.utils\nrunstring\n(S\'open("canary","w")\'\n}tR.'
    refuse(run, "numpy.testing._private.utils.runstring")
    refuse(b"\x80\x04\x8c\x0cnumpy.f2py.x\x8c\x04main\x93)R.", r"numpy\.f2py\.x\.main")
    refuse(b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"Pcanary\n.", "instruction PERSID"),
        (b"Vcanary\nQ.", "instruction BINPERSID"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"(S'touch canary'\nios\nsystem\n.", "instruction INST"),
        (b"(cos\nsystem\nS'touch canary'\no.", "instruction OBJ"),
        (b"cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"cnumpy\nndarray\n)}\x92.", "instruction NEWOBJ_EX"),
        (b"cnumpy\nndarray\n)R.", "calls a string with a tuple"),
        (b"cnumpy\nndarray\n}b.", "sets the state of a string"),
        (b"c_codecs\nencode\n}S'x'\nI1\nsb.", "holds a key that is a string"),
        (b"c_codecs\nencode\n}b.", "sets the state of a method"),
        (b"c_codecs\nencode\n(V/etc/passwd\nVzlib\ntR.", "another form than latin1"),
        (b"c_codecs\nencode\n(tR.", "damaged or no pickle"),
        (b"c_codecs\nencode\nU\x0212R.", "calls a method with a string"),
        (b"cnumpy\ndtype\n(VO8\ntR.", "dtype O8"),
        (b"cnumpy\ndtype\n(VU0\ntR.", "dtype U0"),
        (b"cnumpy\ndtype\n(Vf8,O\ntR.", "dtype f8,O"),
        (b"cnumpy\ndtype\n(Vf8\ntR(I3\nV<\nN(Va\nt}I8\nI1\nI0\ntb.", "structured dtype"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntVb\ntR.", "holds an array, not a dict"),
        (b"\x97.", "instruction NEXT_BUFFER"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(VU1\ntRC\x04\xff\xff\xff\xfftR.", "damaged"),  # no letter
        (b"]].", "instruction EMPTY_LIST"),
        (b"\x8f.", "instruction EMPTY_SET"),
        (b"\x80\x04N2.", "instruction DUP"),
        (b"0.", "instruction POP"),
        (b"((((.", "damaged or no pickle"),
        (b"t.", "damaged or no pickle"),
        (b"NNNs.", "damaged or no pickle"),
        (b"(NNd.", "a dict in an unknown form"),
        (b"h\x07.", "damaged or no pickle"),
        (b"N.N.", "2 bytes follow"),
        (b"N", "damaged or no pickle"),
        (b"\xff\xfe\xfd", "damaged or no pickle"),
        (b"not a pickle at all", "damaged or no pickle|instruction"),
        (b"I" + b"9" * 10_000 + b"\n.", "damaged or no pickle"),
        (b"N.", "holds nothing, not a dict"),
        (b"\x80\x04}(\x8c\x01a\x8c\x01b\x86K\x01u.", r"\('a', 'b'\) holds an integer, not an array of numbers"),
        (b"\x80\x04}(\x8c\x01aK\x01u.", "holds a key that is a string, not a pair"),
        (b"\x80\x04}(K\x01K\x02\x86K\x01u.", "holds a key that is a tuple, not a pair"),
        (b"", "empty; give a pickle"),
        (gzip.compress(pickle.dumps(CURVES)), "compressed by gzip; unpack it first"),
        (b"\x93NUMPY\x01\x00", "an npy file"),
        (b"PK\x03\x04", "a zip or npz file"),
    ],
)
def test_what_no_array_needs_is_refused(refuse, content, match):
    refuse(content, match)


def test_object_arrays_are_refused(refuse):
    hidden = np.empty((30, 8), object)
    hidden[0, 0] = Calls(os.system, "touch canary")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refuse(pickle.dumps({("task", "m"): hidden}, protocol), "dtype O8|instruction|system")


def test_other_values_and_types_are_named(refuse):
    for value, match in (
        (np.zeros((3, 2), bool), r"\('task', 'm'\) holds an array of bool, not an array of numbers"),
        (np.zeros(3, complex), "dtype c16"),
        (np.zeros(3, "f8,f8"), "dtype V16"),
        (np.zeros(3, "M8[s]"), "dtype M8"),
        (1.5, "holds a number, not an array of numbers"),
        ("text", "holds a string"),
        ([1.0], r"EMPTY_LIST \(a list, or an array of objects\), which no array needs"),
        (np.float64(0.5), "holds a number"),
    ):
        refuse(pickle.dumps({("task", "m"): value}), match)


def test_nothing_can_declare_itself_large(refuse):
    build = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
    dtype = b"cnumpy\ndtype\n(Vf8\ntR"
    for size in (b"L1000000000000L", b"I-1", b"L0L\nL" + b"9" * 30 + b"L"):
        refuse(build + b"(I1\n(" + size + b"\nt" + dtype + b"I00\nU\x08" + bytes(8) + b"tb.", "without a shape")
    refuse(build + b"(I1\n(I9\nt" + dtype + b"I00\nU\x08" + bytes(8) + b"tb.", "other size than its 8")
    refuse(b"\x8e" + struct.pack("<Q", 2**40) + b"x.", "damaged")  # bytes that are not there
    refuse(b"\x95" + struct.pack("<Q", 2**40) + b"N.", "nothing")  # a frame's length promises nothing
    refuse(b"Nr" + struct.pack("<I", 2**32 - 1) + b".", "nothing")  # the memo is no array
    refuse(b"N" * 200_001, "more than 200000 instructions")
    text = 2**20 * b"x"
    again = b"h\x00h\x01h\x02\x86R"
    repeated = b"c_codecs\nencode\nq\x00X" + struct.pack("<I", len(text)) + text + b"q\x01Vlatin1\nq\x02"
    refuse(repeated + 200 * again + b".", "unpacks to more than 64 MiB")


def test_deep_nesting_neither_recurses_nor_explodes(refuse):
    refuse(b")" + 150_000 * b"\x85" + b".", "holds a tuple, not a dict")
    doubling = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(100))
    refuse(doubling + b".", "holds a tuple, not a dict")
    refuse(b"}" + doubling + b"Ns.", "holds a key that is a tuple")
    refuse(b"(" * 150_000 + b".", "damaged")
    refuse(b"})" + 150_000 * b"\x85" + b"Ns.", "holds a key that is a tuple")


def test_a_truncated_file_is_damaged(tmp_path):
    content = pickle.dumps({("task", "m"): np.zeros((3, 2))})
    for end in range(1, len(content)):
        (tmp_path / "cut.pkl").write_bytes(content[:end])
        with pytest.raises(UserError):
            read_arrays(tmp_path / "cut.pkl")


def survives(content):
    """Whether a file that may hold anything is read or refused; any other error fails the test."""
    try:
        unpickled(content)
    except Refused:
        return False
    return True


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(content):
    assert not survives(content) or content.endswith(b".")


@given(st.data())
def test_a_damaged_pickle_is_refused_or_read(data):
    content = bytearray(pickle.dumps(CURVES, data.draw(st.integers(0, 5))))
    assert survives(bytes(content))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(content))


def test_nothing_real_can_be_reached():
    needed = unpickle.NEEDED.split()
    assert {opcode.name for opcode in pickletools.opcodes} >= {*needed}
    assert not {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "PERSID"} & {*needed}
    for name, stand_in in unpickle.Reader(io.BytesIO()).known.items():
        assert stand_in == "a class" or stand_in.__module__ == unpickle.__name__, name
