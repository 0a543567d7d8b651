"""`tunec completion`: what makes a shell complete verbs, options, keys and choices."""

from __future__ import annotations

import argparse
from typing import Any

from .shared import new_verb

BASH = r"""# tunec completion for bash; in ~/.bashrc: eval "$(tunec completion bash)"
_tunec() {
    local word line joined='' glued=0 index
    local -a words=()
    # bash takes the `=` of `key=value` for a word of its own
    for ((index = 1; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ ${#words[@]} -gt 0 && ($word == '=' || $glued == 1) ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        glued=0
        if [[ $word == '=' ]]; then glued=1; fi
    done
    local last=${words[${#words[@]}-1]}
    if [[ $COMP_WORDBREAKS == *=* && $last == *=* ]]; then joined=${last%"${last##*=}"}; fi
    COMPREPLY=()
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        case $line in
            '@files '*) _tunec_files "${line#@files }" "${last#"$joined"}" ;;
            *)
                COMPREPLY+=("${line#"$joined"}")
                if [[ $line == *[.=] ]]; then compopt -o nospace 2>/dev/null; fi
                ;;
        esac
    done < <("$1" __complete "${words[@]}" 2>/dev/null)
}
_tunec_files() {
    local name
    compopt -o filenames 2>/dev/null
    while IFS= read -r name; do COMPREPLY+=("$name"); done < <(
        compgen -d -- "$2"
        if [[ $1 == '*' ]]; then compgen -f -- "$2"; else compgen -f -X "!*$1" -- "$2"; fi
    )
}
complete -F _tunec tunec
"""

ZSH = r"""#compdef tunec
# tunec completion for zsh; in ~/.zshrc, after compinit: eval "$(tunec completion zsh)"
_tunec() {
    local name text
    local -a plain shown open_ends open_shown
    while IFS=$'\t' read -r name text; do
        case $name in
            '@files *') _files ;;
            '@files '*) _files -g "*${name#@files }(-.)" ;;
            *[.=]) open_ends+=("$name"); open_shown+=("$name  $text") ;;
            *) plain+=("$name"); shown+=("$name  $text") ;;
        esac
    done < <("$words[1]" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    (( $#plain )) && compadd -l -d shown -a plain
    (( $#open_ends )) && compadd -S '' -l -d open_shown -a open_ends
    return 0
}
compdef _tunec tunec
"""

FISH = r"""# tunec completion for fish; tunec completion fish > ~/.config/fish/completions/tunec.fish
function __tunec_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    for line in ($program __complete $words 2>/dev/null)
        switch $line
            case '@files \*'
                __fish_complete_path (commandline -ct)
            case '@files *'
                __fish_complete_suffix (string replace '@files ' '' -- $line)
            case '*'
                echo $line
        end
    end
end
complete -c tunec -f -a '(__tunec_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def add(verbs: Any) -> None:
    """Define the verb."""
    verb = new_verb(
        verbs,
        "completion",
        _completion,
        "print a script that makes a shell complete verbs, options, keys and choices",
        'bash: eval "$(tunec completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit;\n'
        "fish: tunec completion fish > ~/.config/fish/completions/tunec.fish",
    )
    verb.add_argument("shell", choices=list(SCRIPTS), help="the shell")


def _completion(options: argparse.Namespace) -> int:
    print(SCRIPTS[options.shell], end="")
    return 0
