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
