// SPDX-License-Identifier: Apache-2.0

// Package apps measures the applications that this machine vouches for, and answers for them
// in the words of the API ([Service]).
//
// An app is a systemd system unit and its user, and the files that make it up. The package
// reads the declarations, has the files of each app hashed (package manifest), and hands one
// event for each app to a [Recorder], which appends it to the measurement log. It watches
// the files and measures again when they change.
//
// Identity is content. Whether the bytes that were hashed are what runs is a different
// question, which only a comparison of content answers ([Apps.Covers]).
//
// What is not seen: writes through a memory mapping that was made writable before
// the file was hashed, bind mounts that are put over a measured path, and writes by
// a hard link from elsewhere. None raises an inotify event. [Apps.Measure] hashes
// everything anew and so finds them; the rescan that [Apps.Run] makes now and then
// finds the latter two. The format of the declarations and the limits of all this are
// in docs/apps.md.
package apps
