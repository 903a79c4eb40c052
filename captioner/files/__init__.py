"""Files as every package reads and writes them: atomically, under a lock, within bounds.

`atomic` writes a file completely or not at all, `lock` and `folder_lock` keep a second writer out,
`regular` and `archive` read nothing but bounded regular files, `tensors` and `json_file` read their
formats from untrusted sources.
"""
