"""Names and numbers that options, records and code share. No torch here."""

from typing import Literal, get_args

Method = Literal["mean_diff", "shift", "prompt", "lda", "probe"]
METHODS: tuple[Method, ...] = get_args(Method)
Scope = Literal["reply", "last_prompt", "all"]
Outliers = Literal["drop", "keep"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Theme = Literal["light", "dark"]
KEPT_MEGABYTES = 160  # for what passes of untouched models leave for the arms, unless --memory says otherwise
