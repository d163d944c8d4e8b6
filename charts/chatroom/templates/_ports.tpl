{{/* Port of a listener of the client Service, or nothing where it is off. Call with (list . "irc" 6667). */}}
{{- define "chatroom.port" -}}
{{- $values := (index . 0).Values -}}
{{- $listener := dig (index . 1) dict $values.listeners -}}
{{- if dig "enabled" true $listener -}}
{{- dig "port" (index . 2) $listener | int -}}
{{- end -}}
{{- end }}
