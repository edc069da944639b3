from pathlib import Path

from components.shared.formats.changes import Change, write_changes


def test_file_has_a_row_per_image(tmp_path: Path) -> None:
    changes = [
        Change("train/i/a.png", "0a", "i", "train/v/a.png", "v", "relabelled", "person", ""),
        Change('train/i/b,"1".png', "0b", "i", "", "", "dropped", "policy", "There is\nno ink."),
    ]
    write_changes(tmp_path / "changes", iter(changes))
    assert (tmp_path / "changes").read_bytes().decode() == (
        "filename,sha256,label,new_filename,new_label,action,decided_by,why\r\n"
        "train/i/a.png,0a,i,train/v/a.png,v,relabelled,person,\r\n"
        '"train/i/b,""1"".png",0b,i,,,dropped,policy,"There is\nno ink."\r\n'
    )
