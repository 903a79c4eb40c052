"""numpy's files as untrusted: what numpy reads is read, all else is one line in bounded memory."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from captioner.files.arrays import ArrayError, read_arrays

NUMBERS = st.one_of(
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
)
ARRAYS = arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


@settings(deadline=None, max_examples=60)
@given(array=ARRAYS, fortran=st.booleans())
def test_npy_is_read_as_numpy_reads_it(
    array: np.ndarray, fortran: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.npy"
    np.save(path, np.asfortranarray(array) if fortran else array)
    assert same(read_arrays(path, (), 100)[""], np.load(path))


@settings(deadline=None, max_examples=60)
@given(first=ARRAYS, second=ARRAYS, compressed=st.booleans())
def test_npz_is_read_as_numpy_reads_it(
    first: np.ndarray,
    second: np.ndarray,
    compressed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, one=first, two=second, three=second)
    found = read_arrays(path, ("two", "one", "four"), 100)
    assert sorted(found) == ["one", "two"]
    assert same(found["one"], first)
    assert same(found["two"], second)


def test_a_header_that_python_2_wrote(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.arange(6, dtype="<f4").reshape(2, 3))
    old = content.getvalue().replace(b"(2, 3), }  ", b"(2L, 3L), }")
    (tmp_path / "a.npy").write_bytes(old)
    assert read_arrays(tmp_path / "a.npy", (), 10)[""].tolist() == [[0, 1, 2], [3, 4, 5]]


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def header(descr: str = "'<f4'", shape: str = "(2,)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a file of numpy's format"),
        (b"a picture", "not a file of numpy's format"),
        (npy(header("'|O'")), "values are of type '|O', not plain numbers"),
        (npy(header("[('a', '<f4')]")), "not plain numbers"),
        (npy(header("'<c8'")), "not plain numbers"),
        (npy(header("'<f16'")), "not plain numbers"),
        (npy(header("'<f4'", "(-2,)")), "header is damaged"),
        (npy(header("'<f4'", "(2 * 10**9,)")), "header is damaged"),
        (npy(header("'<f4'", "(9" * 200 + ",)")), "header is damaged"),
        (npy(header("'<f4'", f"({'9' * 5000},)")), "size is out of range"),
        (npy(header("'<f4'", "(2000000000, 2000000000)")), "more than the 1,000 values allowed"),
        (npy(header("'<f4'", "(900,)"), b"abcd"), "3,596 of its 3,600 bytes are missing"),
        (npy(header(), bytes(9)), "bytes follow the array"),
        (npy(b"__import__('os').abort()"), "header is damaged"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "not a file of numpy's format 1.0"),
        (b"PK\x05\x06", "not a whole archive"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ArrayError) as caught:
        read_arrays(path, (), 1000)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def archive(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_archives_that_expand_are_refused_before_they_do(tmp_path: Path) -> None:
    bomb = npy(header("'<f8'", "(90,)")) + bytes(2**26)
    path = archive(tmp_path / "a.npz", {"features.npy": bomb})
    with pytest.raises(ArrayError, match="bytes follow the array"):
        read_arrays(path, ("features",), 1000)
    long_header = b"\x93NUMPY\x02\x00" + (2**27).to_bytes(4, "little") + b" " * 2**27
    path = archive(tmp_path / "b.npz", {"features.npy": long_header})
    with pytest.raises(ArrayError, match="not a file of numpy"):
        read_arrays(path, ("features",), 1000)


def test_archives_of_other_kinds(tmp_path: Path) -> None:
    array = npy(header(), bytes(8))
    path = archive(tmp_path / "a.npz", {"a.npy": array, "b.npy": array})
    with pytest.raises(ArrayError, match=r"holds none of the arrays features \(it has a, b\)"):
        read_arrays(path, ("features",), 1000)
    path = archive(tmp_path / "b.npz", {"features.npy": array}, zipfile.ZIP_LZMA)
    with pytest.raises(ArrayError, match="compressed in an unusual way"):
        read_arrays(path, ("features",), 1000)
    path = archive(tmp_path / "c.npz", {f"{i}.npy": array for i in range(99)})
    with pytest.raises(ArrayError, match="more than the 64 allowed"):
        read_arrays(path, ("features",), 1000)
    alone = archive(tmp_path / "d.npz", {"arr_0.npy": array})
    assert read_arrays(alone, ("features",), 1000)["arr_0"].tolist() == [0, 0]


def test_a_damaged_member_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, features=np.arange(40.0))
    content = bytearray(path.read_bytes())
    place = content.index(np.float64(17.0).tobytes())
    content[place + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArrayError, match="CRC"):
        read_arrays(path, ("features",), 1000)
