-- Opens another lineage of a shard, once for every process of the server: who comes second finds it done.
-- KEYS: head, log.  ARGV: this process (run id), lineage that the caller knows, the next one, payload of its entry.
-- Gives: the lineage in force.
local head = redis.call('HMGET', KEYS[1], 'run', 'lineage', 'last')
if head[1] == ARGV[1] or head[2] ~= ARGV[2] then
  return head[2]
end
local index = string.format('%.0f', tonumber(head[3]) + 1)
local time = redis.call('TIME')
local ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('XADD', KEYS[2], index .. '-0', 't', ms, 'p', ARGV[4])
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'lineage', ARGV[3], 'last', index)
return ARGV[3]
