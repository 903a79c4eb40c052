"""Pages in a real browser: Debian's Chromium, driven by Playwright.

Everything here is marked slow. `conftest.py` holds the fixtures, `watching.py` what they give:

- `page`: a page of Playwright that records console messages, errors of scripts and every request.
  Its test fails on any error, and on any request to another host.
- `watched`: the same page with its records. Set `watched.server` to the address of a server at
  127.0.0.1 before the first visit; without it only files may be opened.
- `accessible`: a function that fails on violations of WCAG 2.1 AA that axe-core finds in the page.
"""
