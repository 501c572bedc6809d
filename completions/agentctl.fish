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
