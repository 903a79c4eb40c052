"""HTML pages that open from disk, without a server or network.

Each page is a template beside the module that fills it: `gallery` shows a folder of captioned
photos.
"""
