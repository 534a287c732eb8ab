-- KEYS  1 the live workers. Returns how many have been heard of lately, by Valkey's own clock.
local time = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), '+inf')
