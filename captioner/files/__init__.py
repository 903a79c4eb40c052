"""File access for all packages: atomic writes, locks, and reads with bounded size.

`atomic` writes files atomically. `lock` and `folder_lock` keep a second writer out. `regular` and
`archive` read only regular files of bounded size. `tensors`, `arrays` (numpy) and `json_file` read
their formats from untrusted sources.
"""
