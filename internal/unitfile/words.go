// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cvm-agentd/agentd/internal/unitname"
)

// blanks separate words.
const blanks = " \t\r\n"

// commands splits command lines as systemd does (systemd.service(5), "Command lines";
// extract_first_word in src/basic/extract-word.c): at blanks, with quotes anywhere in a word
// and the escapes of C. An escape that is not one stays as it is. A lone ";" begins the next
// command.
func commands(line string) ([][]string, error) {
	var out [][]string
	var current []string
	for {
		line = strings.TrimLeft(line, blanks)
		if line == "" {
			return append(out, current), nil
		}
		word, n, err := word(line)
		if err != nil {
			return nil, err
		}
		switch raw := line[:n]; raw {
		case ";":
			out, current = append(out, current), nil
		case `\;`:
			current = append(current, ";")
		default:
			current = append(current, word)
		}
		line = line[n:]
	}
}

// word returns the first word of a line, and how many of its bytes that takes.
func word(line string) (string, int, error) {
	var word []byte
	quote, i := byte(0), 0
	for ; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\':
			if i+1 == len(line) {
				return "", 0, errors.New("a backslash at the end escapes nothing")
			}
			text, n := unescape(line[i+1:])
			word = append(word, text...)
			i += n
			continue
		case quote != 0 && c == quote:
			quote = 0
			continue
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
			continue
		}
		if quote == 0 && strings.IndexByte(blanks, c) >= 0 {
			break
		}
		word = append(word, c)
	}
	if quote != 0 {
		return "", 0, errors.New("a quote is not closed")
	}
	return string(word), i, nil
}

// unescape returns what the text after a backslash means, and how many of its bytes that takes.
func unescape(s string) (string, int) {
	if i := strings.IndexByte(`abfnrtvs\"'`, s[0]); i >= 0 {
		return string("\a\b\f\n\r\t\v \\\"'"[i]), 1
	}
	for _, form := range []struct {
		begin        string
		digits, base int
		character    bool // of Unicode, not a byte
	}{{"x", 2, 16, false}, {"u", 4, 16, true}, {"U", 8, 16, true}, {"", 3, 8, false}} {
		rest, ok := strings.CutPrefix(s, form.begin)
		if !ok || len(rest) < form.digits {
			continue
		}
		n, err := strconv.ParseUint(rest[:form.digits], form.base, 32)
		if err != nil || n == 0 || !form.character && n > 255 || form.character && !utf8.ValidRune(rune(n)) {
			continue
		}
		if form.character {
			return string(rune(n)), len(form.begin) + form.digits
		}
		return string([]byte{byte(n)}), len(form.begin) + form.digits
	}
	return `\` + s[:1], 1
}

// errByHand is returned for what depends on more than the unit file.
var errByHand = errors.New("write the declaration by hand")

// fixed are the specifiers that are the same on each machine (systemd.unit(5), "Specifiers"), for
// the system manager.
var fixed = map[byte]string{
	'%': "%", 't': "/run", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'E': "/etc", 'T': "/tmp", 'V': "/var/tmp",
	'h': "/root", 'u': "root", 'U': "0", 'g': "root", 'G': "0",
}

// expand replaces the specifiers of a setting. A name of the unit is one of several if it has
// aliases: systemd takes the one by which the unit is loaded first.
func expand(s string, n unitname.Name, aliases bool) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		if text, ok := fixed[s[i]]; ok {
			out.WriteString(text)
			continue
		}
		text, err := fromName(s[i], n)
		switch {
		case err != nil:
			return "", fmt.Errorf("the specifier %%%c %w: %w", s[i], err, errByHand)
		case aliases && s[i] != 'i' && s[i] != 'I':
			return "", fmt.Errorf("the specifier %%%c is one of the names of the unit, which has several: %w", s[i], errByHand)
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// fromName returns what a specifier takes from the unit's name.
func fromName(specifier byte, n unitname.Name) (string, error) {
	last := n.Prefix[strings.LastIndexByte(n.Prefix, '-')+1:]
	if n.Template && strings.IndexByte("iInN", specifier) >= 0 {
		return "", errors.New("is another one for each instance of the template")
	}
	switch specifier {
	case 'i':
		return n.Instance, nil
	case 'I':
		return plainName(n.Instance)
	case 'n':
		return n.String(), nil
	case 'N':
		return strings.TrimSuffix(n.String(), "."+n.Type), nil
	case 'p':
		return n.Prefix, nil
	case 'P':
		return plainName(n.Prefix)
	case 'j':
		return last, nil
	case 'J':
		return plainName(last)
	}
	return "", errors.New("depends on the machine")
}

// plainName undoes the escapes of a part of a unit's name (systemd-escape --unescape).
func plainName(s string) (string, error) {
	var out []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '-':
			out = append(out, '/')
		case s[i] == '\\':
			if !strings.HasPrefix(s[i:], `\x`) || len(s) < i+4 {
				return "", errors.New("is not escaped as systemd-escape does")
			}
			b, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
			if err != nil {
				return "", errors.New("is not escaped as systemd-escape does")
			}
			out = append(out, byte(b))
			i += 3
		default:
			out = append(out, s[i])
		}
	}
	return string(out), nil
}
