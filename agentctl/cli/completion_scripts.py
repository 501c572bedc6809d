"""What a shell sources to complete ``agentctl``: it hands the line over, and shows what comes back (``complete.py``).

The answer's first line says what kind of values follow: ``values``, ``nospace`` (more will be typed behind them),
``files`` or ``dirs`` (the shell's own, and none follow). Then a value a line, with what it is as the shell takes that.
"""

from __future__ import annotations

VARIABLE = "_AGENTCTL_COMPLETE"

BASH = r"""
# bash completion for agentctl
_agentctl_completion() {
    local kind line
    COMPREPLY=()
    {
        IFS= read -r kind || return 0
        while IFS= read -r line; do
            COMPREPLY+=("$line")
        done
    } < <(_AGENTCTL_COMPLETE=bash "$1" "${COMP_TYPE:-9}" "${COLUMNS:-80}" "$COMP_WORDBREAKS" \
        "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null)
    case $kind in
        nospace) compopt -o nospace 2>/dev/null ;;
        files) compopt -o default 2>/dev/null ;;
        dirs) compopt -o dirnames 2>/dev/null ;;
    esac
    return 0
}

complete -o nosort -F _agentctl_completion agentctl 2>/dev/null || complete -F _agentctl_completion agentctl
"""

ZSH = r"""
#compdef agentctl
# zsh completion for agentctl

_agentctl() {
    local kind
    local -a given answer
    given=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    answer=("${(@f)$(_AGENTCTL_COMPLETE=zsh ${(Q)words[1]} "${given[@]}" 2>/dev/null)}")
    kind=$answer[1]
    shift answer
    if [[ $PREFIX == --*=* ]]; then
        compset -P '*='
    fi
    case $kind in
        files) _files ;;
        dirs) _files -/ ;;
        nospace) _describe -V value answer -S '' ;;
        values) (( $#answer )) && _describe -V value answer ;;
    esac
}

if [[ $funcstack[1] == _agentctl ]]; then
    _agentctl "$@"
else
    compdef _agentctl agentctl
fi
"""

FISH = r"""
# fish completion for agentctl
function __agentctl_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -lx _AGENTCTL_COMPLETE fish
    set -l answer ($before[1] $before[2..-1] "$current" 2>/dev/null)
    set -l kind $answer[1]
    set -e answer[1]
    switch "$kind"
        case files
            __fish_complete_path "$current"
        case dirs
            __fish_complete_directories "$current" ''
        case '*'
            printf '%s\n' $answer
    end
end

complete -c agentctl -e
complete -c agentctl -f -k -a '(__agentctl_complete)'
"""

SCRIPTS = {"bash": BASH.lstrip(), "zsh": ZSH.lstrip(), "fish": FISH.lstrip()}


def teach_typer() -> None:
    """Have ``--show-completion`` and ``--install-completion`` give these scripts instead of Typer's own, which start
    all of Typer at each key. It fills them in with the % operator."""
    from typer import _completion_shared

    _completion_shared._completion_scripts.update({name: s.replace("%", "%%") for name, s in SCRIPTS.items()})
