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
