-- Gives an entry the next index of its shard and the time of this server, and keeps it; or refuses another lineage.
-- KEYS: head, log.  ARGV: lineage, payload.
-- Gives: the index.
local head = redis.call('HMGET', KEYS[1], 'lineage', 'last')
if head[1] ~= ARGV[1] then
  return redis.error_reply('LINEAGE ' .. tostring(head[1]))
end
local index = string.format('%.0f', tonumber(head[2]) + 1)
local time = redis.call('TIME')
local ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('XADD', KEYS[2], index .. '-0', 't', ms, 'p', ARGV[2])
redis.call('HSET', KEYS[1], 'last', index)
return index
