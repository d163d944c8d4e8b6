-- A node ends in good order: it is not waited for, and another one may lead at once.
-- KEYS: nodes.  ARGV: this node.
redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('HGET', KEYS[1], 'leader') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'leader')
end
return 1
