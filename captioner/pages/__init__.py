"""HTML pages that open from disk, without a server or network.

Each page is a template beside the module that fills it, in the frame of `page`: `gallery` shows a
folder of captioned photos, `report` the captions of one or more models with scores, tests and
faults.
"""
