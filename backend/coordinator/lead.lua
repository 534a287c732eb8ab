-- Takes or keeps the lead. Each new reign gets a larger fencing token, so that an old leader's late word can be told from a new one's. A
-- Valkey that came back without its last second, and its last tokens, gives none of them again: a token is no smaller than the time in ms.
-- KEYS  1 who leads   2 the last fencing token      ARGV  1 me   2 lease in ms
-- Returns my fencing token, or 0 while somebody else leads.
local leader = redis.call('HGET', KEYS[1], 'name')
if not leader then
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', KEYS[2]) or '0')
  local token = math.max(last + 1, time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('SET', KEYS[2], string.format('%.0f', token))
  redis.call('HSET', KEYS[1], 'name', ARGV[1], 'token', string.format('%.0f', token))
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return token
end
if leader ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return tonumber(redis.call('HGET', KEYS[1], 'token'))
