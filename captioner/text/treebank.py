"""The rules of the Penn Treebank tokenizer.

They follow the lexer of Stanford CoreNLP 3.4.1, including its quirks, because published scores
depend on them. `tokenizer` defines the action of each rule, `lexer` the syntax of expressions.
"""

from __future__ import annotations

import re

from captioner.text.lexer import Definitions, Rule

# Before these words, a single letter with a period is the end of a sentence, not an abbreviation.
_SENTENCE_STARTERS = (
    "About|According|Additionally|After|An|A|As|At|But|Earlier|He|Her|Here|However|If|In|It|Last|"
    "Many|More|Mr.|Ms.|Now|Once|One|Other|Our|She|Since|So|Some|Such|That|The|Their|Then|There|"
    "These|They|This|We|When|While|What|Yet|You"
)

# Vowel signs, tone marks, diacritics and other characters that are part of words although they are
# not letters (or were not in the Java version of that time).
_WORD_MARKS = (
    "[\u00ad\u0237-\u024f\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0300-\u037d\u0384\u0385\u03cf"
    "\u03f6\u03fc-\u03ff\u0483-\u0487\u04cf\u04f6-\u04ff\u0510-\u0525\u055a-\u055f\u0591-\u05bd"
    "\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0615-\u061a\u063b-\u063f\u064b-\u065e\u0670"
    "\u06d6-\u06ef\u06fa-\u06ff\u070f\u0711\u0730-\u077f\u07a6-\u07b1\u07ca-\u07f5\u07fa"
    "\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc-\u09c4\u09c7"
    "\u09c8\u09cb-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83"
    "\u0abc-\u0acf\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56"
    "\u0d3e-\u0d44\u0d46-\u0d48\u0e30-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ecd]"
)

_SYMBOLS = (
    "[+%&~^|\\\\\u00a6-\u00a9\u00ac\u00ae-\u00ba\u00d7\u00f7\u0387\u05be\u05c0\u05c3\u05c6\u05f3"
    "\u05f4\u0600-\u0603\u0606-\u060a\u060c\u0614\u061b\u061e\u066a\u066d\u0703-\u070d"
    "\u07f6-\u07f8\u0964\u0965\u0e4f\u1fbd\u2016\u2017\u2020-\u2023\u2030-\u2038\u203b"
    "\u203e-\u2042\u2044\u207a-\u207f\u208a-\u208e\u2100-\u214f\u2190-\u2bff\u3012\u30fb"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)

# Letters and digits added to Unicode after version 6.3 (2013), which the tool drops.
_TOO_YOUNG = re.compile(
    "[\u037f\u0528-\u052f\u0560\u0588\u05ef\u0860-\u086a\u0870-\u0887\u0889-\u088e\u08a1"
    "\u08ad-\u08c9\u0978\u0980\u09fc\u0af9\u0c34\u0c5a\u0c5d\u0c80\u0cdd\u0d04\u0d54-\u0d56"
    "\u0d5f\u0de6-\u0def\u0e86\u0e89\u0e8c\u0e8e-\u0e93\u0e98\u0ea0\u0ea8\u0ea9\u0eac\u13f5"
    "\u13f8-\u13fd\u16f1-\u16f8\u170d\u171f\u1878\u191d\u191e\u19b0-\u19c0\u19c8"
    "\u19c9\u1b4c\u1c80-\u1c88\u1c90-\u1cba\u1cbd-\u1cbf\u1cf2\u1cf3\u1cfa\u2c2f\u2c5f\u312e"
    "\u312f\u31bb-\u31bf\u4db6-\u4dbf\u9fcd-\u9fff\ua698-\ua69d\ua78f\ua794-\ua79f\ua7ab-\ua7ca"
    "\ua7d0\ua7d1\ua7d3\ua7d5-\ua7d9\ua7f2-\ua7f7\ua8fd\ua8fe\ua9e0-\ua9e4\ua9e6-\ua9fe\uaa7e"
    "\uaa7f\uab30-\uab5a\uab5c-\uab69\uab70-\uabbf]"
).match


def _is_letter(char: str) -> bool:
    if char > "\uffff" or _TOO_YOUNG(char):  # basic plane only
        return False
    return char.isalpha() or char in "\u1885\u1886"  # these two have since become marks


# A plain letter in an expression matches either case, a bracketed one does not: "Ark." ([A]rk) is
# an abbreviation, "ark" is a boat.
DEFINITIONS: Definitions = {
    "LETTER": _is_letter,
    "UPPER": str.isupper,
    "WORD_MARK": re.compile(_WORD_MARKS).match,
    "DECIMAL": lambda char: char.isdecimal() and char <= "\uffff" and not _TOO_YOUNG(char),
    # --- blanks
    "SPACE": "[ \t\u00a0\u2000-\u200a\u3000]",
    "NEWLINE": "\r|\r?\n|[\u2028\u2029\v\f\u0085]",
    "BLANK": "({SPACE}|{NEWLINE})",
    "SENTENCE_END": "{BLANK}({BLANK}|{UPPER}|{TAG})",
    # --- words
    "WORD_CHAR": "({LETTER}|{WORD_MARK}|&[aeiouAEIOU](acute|grave|uml);)",
    "DIGIT": "({DECIMAL}|[\u07c0-\u07c9])",
    "RUN": "{WORD_CHAR}({WORD_CHAR}|{DIGIT})*",
    "WORD": "{RUN}([.!?]{RUN})*",
    "APOSTROPHE": "(['\u0092\u2019]|&apos;)",
    "ANY_APOSTROPHE": "({APOSTROPHE}|[`\u0091\u2018\u201b])",
    "CLITIC": "{APOSTROPHE}([msdMSD]|re|ve|ll)",
    "NOT": "n{ANY_APOSTROPHE}t",
    "BEFORE_NOT": "[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*",
    "HYPHEN": "[-_\u058a\u2010\u2011]",
    "ALNUMS": "({LETTER}|{DECIMAL})+",
    "ELIDED": "([dDoOlL]{ANY_APOSTROPHE}({LETTER}|{DECIMAL}))?{ALNUMS}",
    "COMPOUND": "{ELIDED}({HYPHEN}{ELIDED})*",
    "MIXED_COMPOUND": "[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(-([A-Za-z0-9\u00ad]+|{DOTTED}\\.))+",
    "SLASHED": "[A-Za-z0-9]+(-[A-Za-z]+){0,2}(\\\\?/[A-Za-z0-9]+(-[A-Za-z]+){0,2}){1,2}",
    "JOINED_CAPITALS": "[A-Z]+(([+&]|&amp;)[A-Z]+)+",
    "APOSTROPHE_WORD": (
        "{APOSTROPHE}n{APOSTROPHE}?|[lLdDjJ]{APOSTROPHE}|(dunkin|somethin|ol){APOSTROPHE}|"
        "{APOSTROPHE}(em|till?|cause|[2-9]0s)|[A-HJ-XZn]{ANY_APOSTROPHE}{LETTER}{2,}|"
        "{LETTER}+[aeiouyAEIOUY]{ANY_APOSTROPHE}[aeiouA-Z]{LETTER}*|cont'd\\.?|'twas|nor'easter|"
        "c'mon|e'er|s'mores|ev'ry|li'l|nat'l|o{ANY_APOSTROPHE}o"
    ),
    # --- numbers
    "AMOUNT": "{DIGIT}+|{DIGIT}*([.:,\u00ad\u066b\u066c]{DIGIT}+)+",
    "FRACTION": "({DIGIT}{1,4}[- \u00a0])?{DIGIT}{1,4}(\\\\?/|\u2044){DIGIT}{1,4}",
    "DATE": "{DIGIT}{1,2}[-/]{DIGIT}{1,2}[-/]{DIGIT}{2,4}",
    "RAISED": (
        "[\u207a\u207b\u208a\u208b]?([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)"
    ),
    "TELEPHONE": (
        "(\\([0-9]{2,3}\\)[ \u00a0]?|(\\+\\+?)?([0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
        "[0-9]{3,4}[- \u00a0]?[0-9]{3,5}"
        "|((\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}"
    ),
    "CURRENCY": ("[\u00a2-\u00a5\u0080\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]"),
    # --- abbreviations
    "COUNTRY_PAIR": "(canada|sino|korean|eu|japan|non)-u\\.s|u\\.s\\.-(u\\.k|u\\.s\\.s\\.r)",
    "DOTTED": "[A-Za-z](\\.[A-Za-z])+|{COUNTRY_PAIR}",
    "ACRONYM": "[A-Za-z]|{DOTTED}",
    "STARTER": re.sub(r"(^|\|)(.)", r"\1[\2]", _SENTENCE_STARTERS.replace(".", r"\.")),
    "BEFORE_SMALL": (
        "(jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|"
        "ala|ariz|[A]z|[A]rk|calif|colo|conn|ct|dak|[D]el|fla|ga|[I]ll|ind|kans?|ky|[L]a|[M]ass|"
        "md|mich|minn|[M]iss|mo|mont|neb|nev|okla|[O]re|[P]a|penn|tenn|[T]ex|va|vt|[W]ash|wisc?|"
        "wyo|inc|cos?|corp|pp?t[ye]s?|ltd|plc|rt|bancorp|bhd|assn|univ|intl|sys|tel|est|ext|sq|"
        "jr|sr|bros|(ed|ph)\\.d|blvd|rd|esq|etc|al|seq|bldg)\\."
    ),
    "BEFORE_CAPITAL": (
        "(mr|mrs|ms|[M]iss|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|"
        "cpl|pvt|capt|ste?|ave|pres|lieut|hon|brig|co?mdr|pfc|spc|supts?|det|mt|ft|adj|adv|asst|"
        "assoc|ens|insp|mlle|mme|msgr|sfc|vs|alex|wm|jos|cie|a\\.k\\.a|cf|treas|ph|invt|elec|natl|"
        "m[ft]g|dept|{ACRONYM})"
    ),
    "BEFORE_NUMBER": "(ca|figs?|prop|nos?|art|bldg|pp|op)\\.",
    # --- the web
    "URL": ('https?://[^ \t\n\f\r"<>|(){}]+[^ \t\n\f\r"<>|.!?(){},-]'),
    "URL_PATH": '(/[^ \t\n\f\r"<>|()]+[^ \t\n\f\r"<>|.!?(){},-])?',
    # The second set excludes everything from "," to "_", so such a host has no capital letters,
    # digits or hyphens.
    "BARE_URL": (
        'www\\.([^ \t\n\f\r"<>|.!?(){},]+\\.)+[a-zA-Z]{2,4}{URL_PATH}'
        "|([^ \t\n\f\r\"`'<>|.!?(){},-_$]+\\.)+(com|net|org|edu){URL_PATH}"
    ),
    "EMAIL": (
        '(&lt;|<)?[a-zA-Z0-9][^ \t\n\f\r"<>|()\u00a0{}]*@([^ \t\n\f\r"<>|(){}.\u00a0]+\\.)*'
        '[^ \t\n\f\r"<>|(){}.\u00a0]+(&gt;|>)?'
    ),
    "HANDLE": "@[a-zA-Z_][a-zA-Z_0-9]*|#{WORD_CHAR}+",
    "FILE_NAME": (
        "({WORD_CHAR}|{DIGIT})+(\\.({WORD_CHAR}|{DIGIT})+)*\\.(bat|bmp|c|class|cgi|cpp|dll|docx?|"
        "exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|"
        "zip)"
    ),
    "TAG_NAME": "[A-Za-z][A-Za-z0-9_:.-]*",
    "TAG": (
        "<([!?][A-Za-z-][^>\r\n]*"
        "|{TAG_NAME}( +({TAG_NAME}|{TAG_NAME} *= *('[^']*'|\"[^\"]*\")))* */?"
        "|/{TAG_NAME}) *>"
    ),
    # --- marks
    "DOTS": "\\.{3,5}|(\\.[ \u00a0]){2,4}\\.|[\u0085\u2026]",
    "BETWEEN": "[,;:\u3001]",
    "DOUBLE_QUOTE": '("|&quot;)',
    "QUOTES": (
        "{APOSTROPHE}|''|[`\u2018-\u201b\u201c-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{1,2}"
    ),
    "SMILEY": "[<>]?[:;=][-o*']?[()DPdpO\\\\{@|[\\]]",
    "EASTERN_SMILEY": (
        "[\\^x=~<>]\\.\\[\\^x=~<>\\]|[-\\^x=~<>']_[-\\^x=~<>']|\\([-\\^x=~<>'][_.]?[-\\^x=~<>']\\)|"
        "\\([\\^x=~<>']-[\\^x=~<>'`]\\)"
    ),
    "SYMBOL": re.compile(_SYMBOLS).match,
}

# The rules in order of precedence. A name refers to an action of the tokenizer.
RULES = [
    Rule("as is", "c\\+\\+|[cC]#|[fF]#"),
    Rule("split 3", "cannot|'twas"),
    Rule("split 2", "'tis|gonna|gotta|lemme|gimme|wanna"),
    Rule("keep blanks", "{TAG}"),
    Rule("dash", "&(md|mdash|ndash);|[\u0096\u0097\u2013-\u2015]"),
    Rule("ampersand", "&amp;"),
    Rule("as is", "&(ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);"),
    Rule("word", "{WORD}", "{CLITIC}"),
    Rule("word", "{BEFORE_NOT}", "{NOT}"),
    Rule("word", "{WORD}"),
    Rule("as is", "{APOSTROPHE_WORD}"),
    Rule("as is", "y{APOSTROPHE}", "{LETTER}"),
    Rule("as is", "{URL}|{BARE_URL}|{EMAIL}|{HANDLE}"),
    Rule("close quote", "{CLITIC}|{NOT}", "[^A-Za-z]"),
    Rule("as is", "{DATE}"),
    Rule("word", "[-+]?({AMOUNT})"),
    Rule("as is", "{RAISED}"),
    Rule("keep blanks", "{FRACTION}"),
    Rule("fraction", "[\u00bc-\u00be\u2153-\u215e]"),
    Rule(
        "ampersand",
        (
            "-(rrb|lrb|rcb|lcb|rsb|lsb)-|c\\.d\\.s|pro-|anti-|s(&|&amp;)p-500|s(&|&amp;)ls|"
            "cap{APOSTROPHE}n|c{APOSTROPHE}est"
        ),
    ),
    Rule("as is", "{SLASHED}"),
    Rule("as is", "[A-Z]*$|#"),
    Rule("currency", "{CURRENCY}"),
    Rule("end of sentence", "{ACRONYM}\\.", "{BLANK}+({STARTER}|{TAG}){BLANK}"),
    Rule("as is", "{BEFORE_NUMBER}", "{BLANK}?{DECIMAL}"),
    Rule("as is", "(pt[eyEY]|co)\\.", "{SPACE}(ltd|lim)"),
    Rule("period again", "{BEFORE_SMALL}", "{SENTENCE_END}"),
    Rule("as is", "{BEFORE_SMALL}", ".."),
    Rule("period again", "{BEFORE_SMALL}"),
    Rule("as is", "{BEFORE_CAPITAL}\\."),
    Rule("as is", "{BEFORE_CAPITAL}", "{SPACE}"),
    Rule("as is", "{ACRONYM}", "{BLANK}"),
    Rule("as is", "{APOSTROPHE}[0-9][0-9]", "{BLANK}"),
    Rule("as is", "{FILE_NAME}", "{BLANK}|[.?!,]"),
    Rule("word", "{WORD}\\.", "{BETWEEN}"),
    Rule("parentheses", "{TELEPHONE}"),
    Rule("open quote", "{DOUBLE_QUOTE}", "[A-Za-z0-9$]"),
    Rule("close quote", "{DOUBLE_QUOTE}"),
    Rule("skip", "\x7f"),
    Rule("less", "<|&lt;"),
    Rule("greater", ">|&gt;"),
    Rule("parentheses", "{SMILEY}", "[^A-Za-z0-9]"),
    Rule("parentheses", "{EASTERN_SMILEY}"),
    Rule("bracket", "[()\\[\\]{}]"),
    Rule("hyphens", "-+"),
    Rule("dots", "{DOTS}"),
    Rule("as is", "@+|_+|#+|\\*+|(\\\\\\*){1,3}"),
    Rule(
        "as is",
        "{BETWEEN}|[?!]+|[.\u00a1\u00bf\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002=/]",
    ),
    Rule("word", "{MIXED_COMPOUND}\\.", "{BETWEEN}"),
    Rule("word", "{MIXED_COMPOUND}"),
    Rule("as is", "{COMPOUND}\\.", "{BETWEEN}"),
    Rule("as is", "{COMPOUND}"),
    Rule("ampersand", "{JOINED_CAPITALS}\\.", "{BETWEEN}"),
    Rule("ampersand", "{JOINED_CAPITALS}"),
    Rule("open quote", "'", "[A-Za-z][^ \t\n\r\u00a0]"),
    Rule("close quote", "{CLITIC}|{NOT}|{QUOTES}"),
    Rule("as is", "<<|>>|{SYMBOL}"),
    Rule("skip", "\0|{SPACE}+|[\u200b\u200e\u200f\ufeff]|{NEWLINE}|&nbsp;"),
]
